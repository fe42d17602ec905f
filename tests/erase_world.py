"""A shard of several sessions, one of them still open, whose every byte tells whose it is; and who holds such bytes."""

from __future__ import annotations

import base64
from pathlib import Path

from padreel.dataset.root import identity_of, open_root
from padreel.dataset.shard import Shard
from padreel.model import (
    AppendUnit,
    CloseReason,
    Commit,
    Effect,
    EndReason,
    EpisodeDraft,
    Fate,
    OpenSession,
    OpenSpan,
    PadState,
    PartitionState,
    SessionInfo,
    SessionRejection,
)
from tests.shard_world import SPEC, STREAM, open_shard
from tests.training_world import Played, messages

# Whose the episodes are, in the order of their commits; three sessions have two of them each.
EPISODES = ("anna", "bert", "anna", "carl", "dora", "bert", "carl")
RIGS = {"anna": "rig-1", "bert": "rig-1", "carl": "rig-2", "dora": "rig-2", "emil": "rig-3", "fred": "rig-3"}
OPEN, REJECTED = "emil", "fred"


def key(name: str) -> str:
    return f"{name}@{sum(name.encode()):x}"


def secrets(name: str) -> list[bytes]:
    """What a session's video and EVENTs hold, and how the log has EVENTs."""
    plain = [b"picture of %s" % name.encode(), b"a press by %s" % name.encode()]
    return [*plain, base64.b64encode(plain[1])]


def held(path: Path, name: str) -> list[str]:
    """The files at and below a folder that hold some of a session."""
    found = []
    for file in sorted(path.rglob("*")):
        content = file.read_bytes() if file.is_file() else b""
        found += [str(file.relative_to(path))] if any(one in content for one in secrets(name)) else []
    return found


def _opened(name: str, resume: int) -> OpenSession:
    event = secrets(name)[1]
    info = SessionInfo(rig_id=RIGS[name])
    return OpenSession(resume=resume, pads_resume=resume, session=info, pad=PadState(event, 5, 5, (event,)))


def _state(i: int) -> PartitionState:
    """Who is open at step `i`: the one whose episodes go on, and OPEN from step 2 on."""
    names = {name for name in EPISODES[:i] if name in EPISODES[i:]} | ({OPEN} if i > 2 else set())
    return PartitionState(frames_next=i, pads_next=i, open={key(one): _opened(one, i + 1) for one in sorted(names)})


def effects(i: int) -> list[Effect]:
    """The `i`-th step: an episode of i + 2 rows, or at last a rejection."""
    if i >= len(EPISODES):
        rejection = SessionRejection(key(REJECTED), RIGS[REJECTED], CloseReason.SCHEMA, "25 fps, expected 30", i, i)
        return [Commit(_state(i + 1), {Fate.REJECTED: 1}, rejections=(rejection,))]
    name, rows = EPISODES[i], i + 2
    draft = EpisodeDraft(
        span=i,
        key=key(name),
        stream=STREAM,
        session=SessionInfo(rig_id=RIGS[name], task="play"),
        reason=EndReason.END,
        first_unit=0,
        first_row=0,
        first_frame_index=0,
        time_ns=tuple(range(rows)),
        pairing=(0,) * rows,
        forced=i,
        late=1,
        events=(secrets(name)[1],),
        event_ns=(1,),
        session_ns=0,
        first_frame_offset=10 * i,
        last_frame_offset=10 * i + 9,
        first_pad_offset=i,
        last_pad_offset=i,
    )
    commit = Commit(_state(i + 1), {Fate.ROW: rows}, episode=draft)
    return [OpenSpan(i, STREAM), AppendUnit(i, 0, True, secrets(name)[0]), commit]


def sessions_without(*names: str) -> tuple[str, ...]:
    """The keys of the episodes that are left."""
    return tuple(key(name) for name in EPISODES if name not in names)


def make(root: Path) -> Path:
    """A root with one shard, closed as after a consumer's good end."""
    open_root(
        root,
        identity_of(
            SPEC,
            cluster_id="cluster",
            frames_topic="padreel.frames",
            pads_topic="padreel.gamepad",
            partitions=4,
            group="recorders",
        ),
    )
    shard = open_shard(root / "partition-00003")
    for i in range(len(EPISODES) + 1):
        shard.apply(effects(i))
    shard.close()
    return root / "partition-00003"


def goes_on(path: Path) -> Shard:
    """A consumer that takes the shard and commits one more episode, of dora."""
    shard = open_shard(path, writer="writer-1")
    before = shard.state
    assert before is not None
    open_span, append, commit = effects(4)
    assert isinstance(commit, Commit)
    shard.apply([open_span, append, Commit(before, {Fate.ROW: 6}, episode=commit.episode)])
    return shard


def payloads(session: Played) -> list[bytes]:
    """Every access unit and every EVENT of a session, and EVENTs as the log has them."""
    events = [value for topic, value in messages(session) if topic.value == "pads"][: len(session.pad)]
    return [*(unit.data for unit in session.source.units), *events, *(base64.b64encode(one) for one in events)]


def held_of(root: Path, session: Played) -> list[str]:
    """Files below a folder that hold any of a session's pictures or EVENTs."""
    wanted = payloads(session)
    there = [one for one in sorted(root.rglob("*")) if one.is_file()]
    return [str(one.relative_to(root)) for one in there if any(part in one.read_bytes() for part in wanted)]
