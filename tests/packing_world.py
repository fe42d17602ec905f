"""Sessions of every codec, whose mp4s are to be packed: open GOPs, several encoders, pictures that were lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from padreel.core.codecs import check_unit, framing_of
from padreel.options import load
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings
from tests.fakes import FakeBroker
from tests.training_world import Played, consume, publish
from tests.video_source import Clip, Source, encode_clip, moving_pictures

H264, HEVC, AV1 = Clip(gop=8), Clip("libx265", gop=8), Clip("libsvtav1", gop=8)
H264_OPEN, HEVC_OPEN = replace(H264, open_gop=True), replace(HEVC, open_gop=True)
AOM = Clip("libaom-av1", gop=8)
# In decode order: a B-frame of the first GOP, one of the second, and one of the second that others are predicted from.
LOST = (3, 12, 10)


@dataclass(frozen=True, slots=True)
class World:
    """Three sessions of three rigs that play at the same time, and how many files they are packed into."""

    clips: tuple[Clip, Clip, Clip]
    files: int = 1
    lost: tuple[int, ...] = ()
    from_open_gop: tuple[int, ...] = ()  # the sessions of which only what follows a key that is no IDR is there


WORLDS: Mapping[str, World] = {
    "h264": World((H264, H264, H264)),
    "h264 of several encoders": World((H264, replace(H264, b_frames=0), replace(H264, b_frames=1))),
    "h264 with open gops": World((H264_OPEN, H264_OPEN, H264_OPEN)),
    "h264 that lost pictures": World((H264, H264, H264), lost=LOST),
    "hevc": World((HEVC, HEVC, HEVC)),
    "hevc of several encoders": World((HEVC, replace(HEVC, b_frames=0), replace(HEVC, b_frames=1))),
    "hevc with open gops": World((HEVC_OPEN, HEVC_OPEN, HEVC_OPEN)),
    "hevc with leading pictures": World((replace(HEVC, radl=2),) * 3),
    "hevc from open gops on": World((HEVC_OPEN, HEVC_OPEN, HEVC_OPEN), files=2, from_open_gop=(0, 2)),
    "hevc that lost pictures": World((HEVC, HEVC, HEVC), lost=LOST),
    "av1": World((AV1, AV1, AV1)),
    "av1 of libaom": World((AOM, AOM, AOM)),
    "av1 of several encoders": World((AV1, AOM, AOM), files=2),
}


def pack(world: World, folder: Path) -> tuple[Path, list[tuple[Played, int, int]]]:
    """Record it, and merge it with `--compact`: the dataset, and of each episode session, first frame and length."""
    sources = [encode_clip(moving_pictures(24 + i, seed=i), clip) for i, clip in enumerate(world.clips)]
    for i in world.from_open_gop:
        sources[i] = _from_open_gop(sources[i])
    sessions = [
        Played(f"session-{i}@{i}", f"rig-{i}", source, lost=frozenset(world.lost[i : i + 1]))
        for i, source in enumerate(sources)
    ]
    broker = FakeBroker(1)
    publish(broker, 0, sessions)
    root = consume(broker, folder / "root", sources[0].stream.codec)
    settings = load(MergeSettings, {"output": folder / "packed", "compact": True})
    merged = merge([root], settings, lambda step, done, total: None)
    expected = {session.key: _episodes(session) for session in sessions}
    by_key = {session.key: session for session in sessions}
    order = [(by_key[one.session], *expected[one.session].pop(0)) for one in merged.manifest.episodes]
    assert not any(expected.values())
    return folder / "packed", order


def _from_open_gop(source: Source) -> Source:
    """What is there of a stream from its second key on; the key's leading pictures are shown before it."""
    framing = framing_of(source.stream.codec, source.stream.extradata)
    keys = [j for j, unit in enumerate(source.units) if check_unit(unit.data, framing).open_gop]
    units = source.units[keys[0] :]
    first = min(unit.index for unit in units)
    assert first < units[0].index
    # The flag, which means nothing, is what a session's first frame has.
    units = [replace(unit, index=unit.index - first, idr=j == 0) for j, unit in enumerate(units)]
    return replace(source, units=units, pictures=source.pictures[first:])


def _episodes(session: Played) -> list[tuple[int, int]]:
    """First frame and length of each."""
    units = session.source.units
    begin = units[0].index  # leading pictures of an open GOP cannot be shown
    if not session.lost:
        return [(begin, len(units) - begin)]
    (gap,) = session.lost
    arrived = {unit.index for unit in units[:gap]}
    length = next(n for n in range(len(units)) if n not in arrived)
    again = next(unit.index for unit in units[gap:] if unit.idr)
    return [(0, length), (again, len(units) - again)]
