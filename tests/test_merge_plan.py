"""What enters a training set and where it goes, as properties."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.dataset.commit_log import CommittedFile
from padreel.dataset.layout import VIDEO_FILES_SIZE_IN_MB
from padreel.errors import SettingsError
from padreel.options import load
from padreel.training.episode import CommittedEpisode
from padreel.training.merge.plan import MAX_PACKED_SECONDS, Pictures, Start, plan_merge
from padreel.training.merge.selection import (
    Condition,
    Filters,
    Reason,
    parse_where,
    select,
    session_owners,
    session_progress,
)
from padreel.training.settings import MergeSettings, RelabelSettings

FPS = 30
MB = 2**20


def episode(n: int = 0, **changes: object) -> CommittedEpisode:
    columns = {
        "session": f"session-{n}@{n:x}",
        "rig": f"rig-{n % 2}",
        "first_frame_index": 0,
        "idle_until_ns": 0,
        "frames_first_offset": n,
        "frames_last_offset": n + 9,
        "pads_first_offset": -1,
        "pads_last_offset": -1,
        "end_reason": "end",
        "forced": 0,
        "late": 0,
    }
    files = tuple(CommittedFile(kind, f"{n}.{kind}", "0" * 64, 1000) for kind in ("video", "data", "gamepad"))
    made = CommittedEpisode("shard", n, n, 30, "play", 0.0, 1.0, columns, files, 1_000 * n, 29 * 10**9 // 30)
    own = {name: value for name, value in changes.items() if name not in columns}
    return replace(made, columns={**columns, **{k: v for k, v in changes.items() if k in columns}}, **own)  # type: ignore[arg-type]


@st.composite
def episodes(draw: st.DrawFn) -> list[CommittedEpisode]:
    made = []
    for n in range(draw(st.integers(1, 30))):
        length, before = draw(st.integers(1, 27_000)), draw(st.integers(0, 250))
        sizes = {"video": draw(st.integers(1, 150 * MB)), "data": draw(st.integers(1, 60 * MB)), "gamepad": 9}
        files = tuple(CommittedFile(kind, f"{n}.{kind}", "0" * 64, size) for kind, size in sizes.items())
        made.append(
            episode(
                n,
                length=length,
                from_timestamp=before / FPS,
                to_timestamp=(before + length) / FPS,
                files=files,
                task=draw(st.sampled_from(["a", "b", "c"])),
            )
        )
    return made


@given(
    given=episodes(),
    start=st.builds(
        Start,
        st.integers(0, 5000),
        st.integers(0, 10**6),
        st.sampled_from([(), ("b",), ("c", "a")]),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    packed=st.booleans(),
    data=st.data(),
)
def test_every_episode_has_its_place(
    given: list[CommittedEpisode], start: Start, packed: bool, data: st.DataObject
) -> None:
    """Dense numbers and rows, whole frames, no two episodes in one place, and the limits of a file."""
    pictures: dict[int, Pictures] | None = None
    if packed:
        pictures = {
            i: Pictures(round(one.to_timestamp * FPS) + data.draw(st.integers(0, 5)), data.draw(st.sampled_from("xy")))
            for i, one in enumerate(given)
        }
    made = plan_merge(given, FPS, start, pictures)
    row = start.rows
    taken: dict[int, list[tuple[int, int, str]]] = {}
    video, data_file = start.videos, start.data_files
    assert made.tasks[: len(start.tasks)] == start.tasks
    for i, (one, planned) in enumerate(zip(given, made.episodes, strict=True)):
        assert planned.episode is one
        assert (planned.index, planned.first_row) == (start.episodes + i, row)
        assert made.tasks[planned.task_index] == one.task
        first, end = planned.from_timestamp * FPS, planned.to_timestamp * FPS
        assert abs(first - round(first)) < 1e-6
        assert round(end) - round(first) == one.length
        assert round(first) - planned.first_picture == round(one.from_timestamp * FPS)
        assert planned.data in (data_file, data_file + 1) or planned.data == data_file == start.data_files
        assert planned.video >= video
        video, data_file = planned.video, planned.data
        held = taken.setdefault(planned.video, [])
        packets = pictures[i].packets if pictures else one.length
        if held:
            assert pictures is not None
            assert planned.first_picture == sum(p for p, _, _ in held)
            assert all(form == pictures[i].form for _, _, form in held)
        else:
            assert planned.first_picture == 0
        held.append((packets, one.file("video").size, pictures[i].form if pictures else ""))
        row += one.length
    assert made.rows == row
    assert made.videos == video + 1
    assert made.data_files == data_file + 1
    assert sorted(taken) == list(range(start.videos, made.videos))
    for held in taken.values():
        assert len(held) == 1 or sum(p for p, _, _ in held) <= MAX_PACKED_SECONDS * FPS
        assert len(held) == 1 or sum(size for _, size, _ in held) <= VIDEO_FILES_SIZE_IN_MB * MB
        assert packed or len(held) == 1


# ---- selection -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "kept", "reason"),
    [
        (Filters(), [0, 1, 2, 3], None),
        (Filters(sessions={"session-1", "session-3@3"}), [1, 3], Reason.SESSION),
        (Filters(rigs={"rig-0"}), [0, 2], Reason.RIG),
        (Filters(since_ms=2_000), [2, 3], Reason.SINCE),
        (Filters(where=parse_where("frames_first_offset >= 1 and rig = rig-1")), [1, 3], Reason.WHERE),
        (Filters(min_quality=0.6), [2, 3], Reason.QUALITY),
        (Filters(top_k=3), [0, 2, 3], Reason.TOP_K),
        (Filters(top_k=1, rigs={"rig-1"}), [3], None),
    ],
)
def test_filters(filters: Filters, kept: list[int], reason: Reason | None) -> None:
    given = [episode(n, quality=q) for n, q in enumerate([0.5, 0.4, 0.7, 0.9])]
    found = select(given, filters, FPS)
    assert [one.n for one in found.kept] == kept
    assert sorted([*kept, *(one.n for one, _ in found.rejected)]) == [0, 1, 2, 3]
    if reason is not None:
        assert {why for _, why in found.rejected} == {reason}


def test_progress_is_the_share_of_a_session_s_frames_that_its_episodes_have() -> None:
    key = "session-7@7"
    whole = episode(0, length=30, last_ns=29 * 10**9 // 30)
    parts = [
        episode(1, session=key, length=30, last_ns=39 * 10**9 // 30),  # the first ten were idle
        episode(2, session=key, length=30, last_ns=99 * 10**9 // 30),  # thirty are missing
    ]
    found = session_progress([whole, *parts], FPS)
    assert found == {whole.session: 1.0, key: 0.6}
    kept = select([whole, *parts], Filters(min_progress=0.7), FPS).kept
    assert kept == (whole,)
    unknown = episode(3, last_ns=None)
    assert session_progress([unknown], FPS) == {unknown.session: None}
    assert select([unknown], Filters(min_progress=0.1), FPS).rejected[0][1] is Reason.PROGRESS


def test_a_session_belongs_to_the_first_shard_that_has_it() -> None:
    first, again = episode(1), replace(episode(1), shard="other")
    owners, twice = session_owners([first, episode(2), again])
    assert owners == {first.session: "shard", episode(2).session: "shard"}
    assert twice == (again, "shard")
    assert select([first, again], Filters(), FPS, owners).rejected == ((again, Reason.EXISTING),)
    assert session_owners([first], {first.session: "shard"})[1] is None
    assert session_owners([first], {first.session: "old"})[1] == (first, "old")


def test_conditions() -> None:
    assert parse_where("length>=300 and rig != 'lab 3' AND quality < 0.5") == (
        Condition("length", ">=", 300),
        Condition("rig", "!=", "lab 3"),
        Condition("quality", "<", 0.5),
    )
    one = episode(4, quality=None)
    assert parse_where("end_reason = end")[0].holds(one)
    assert not parse_where("quality >= 0")[0].holds(one)


@pytest.mark.parametrize("text", ["length", "length => 3", "colour = red", "length > many", "rig ="])
def test_a_condition_that_cannot_be_is_named(text: str) -> None:
    if text == "rig =":
        assert parse_where(text) == (Condition("rig", "=", ""),)
        return
    with pytest.raises(ValueError, match=r"expected"):
        parse_where(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, False),
        ({"mode": "production"}, True),
        ({"mode": "service"}, True),
        ({"mode": "service", "require_lerobot": "false"}, False),
        ({"require_lerobot": "true"}, True),
    ],
)
def test_lerobot_is_required_where_it_matters(given: dict[str, str], expected: bool) -> None:
    assert load(MergeSettings, {"output": "out", **given}).needs_lerobot is expected
    relabelling = load(RelabelSettings, {"output": "out", "action_mapping": "mapping.yaml", **given})
    assert relabelling.needs_lerobot is expected


def test_the_best_of_all_cannot_be_updated() -> None:
    with pytest.raises(SettingsError, match="--top-k"):
        load(MergeSettings, {"output": "out", "update": True, "top_k": 3})
