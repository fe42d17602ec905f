"""The rigs' sessions: folders as a recorder leaves them, the records of them, and what is wrong with the bad ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av

from padreel_schemas.recording import PADS, SYNC, PublishedRecord, Recording
from padreel_schemas.v1.video_pb2 import VideoFrame
from padreel_shim.synthetic import SyntheticRig
from tests.chaos.schedule import BAD, BAD_RECORDINGS, RECORDINGS, Kind, Loose

WIDTH, HEIGHT, FPS, GOP = 160, 120, 30, 10
GAME_ID = "padreel-demo"
# So that most sessions become several episodes, and commits fall into the middle of others.
MAX_EPISODE_SECONDS = 1.0
_LOST = 5  # frames, when a rig restarts

# The reason that the letter about a bad session gives, and whether it is one about a session or a record.
LETTERS = {
    Kind.DAMAGED: ("record", "unit_invalid"),
    Kind.RESTARTED: ("session", "restarted"),
    Kind.RESIZED: ("session", "schema"),
    Kind.UNDECODABLE: ("session", "undecodable"),
}


def record_all(folder: Path) -> list[Path]:
    """The folders of all recordings, which differ in pictures, pad and length: 40 to 96 frames."""
    return [_record(folder / f"recording-{number}", number) for number in range(RECORDINGS)]


def _record(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True)
    rig = SyntheticRig(f"chaos-{number}", (40 + 8 * number) / FPS, WIDTH, HEIGHT, gop=GOP)
    with av.open(str(folder / "capture.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        params = f"bframes=2:b-adapt=0:keyint={GOP}:min-keyint={GOP}:scenecut=0:open-gop=0"
        stream.options = {"preset": "ultrafast", "x264-params": params}
        for index in range(rig.frame_count):
            frame = av.VideoFrame.from_ndarray(rig.picture(index), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    rows = (f"{index},{rig.frame_ns(index)},{rig.pts_ns(index)}" for index in range(rig.frame_count))
    (folder / SYNC).write_text("\n".join(["frame_index,monotonic_ns,pts", *rows]) + "\n")
    payloads = [rig.pad_payload(event.sequence, event.time_ns, event.state) for event in rig.script.events()]
    (folder / PADS).write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in payloads))
    return folder


def records(folder: Path, kind: Kind) -> list[PublishedRecord]:
    """What the rig of such a session publishes, in order."""
    good = list(Recording(folder).records(rig_id="chaos", game_id=GAME_ID))
    return good if kind is Kind.GOOD else _spoilt(good, kind)


def all_records(folders: Sequence[Path]) -> dict[tuple[int, Kind], list[PublishedRecord]]:
    """The records of every session that a plan may ask for."""
    wanted = [(number, Kind.GOOD) for number in range(RECORDINGS)]
    wanted += [(number, kind) for number in range(BAD_RECORDINGS) for kind in BAD]
    return {(number, kind): records(folders[number], kind) for number, kind in wanted}


def loose_record(kind: Loose) -> tuple[str, bytes | None, bytes]:
    """Topic ("frames" or "pads"), key and value."""
    return {
        Loose.KEY_MISSING: ("pads", None, b"no key"),
        Loose.KEY_INVALID: ("frames", b"../../etc@1", b"no name of a session"),
        Loose.UNPARSABLE: ("pads", b"broken@1", b"\xff\xff\xff"),
    }[kind]


def _spoilt(good: list[PublishedRecord], kind: Kind) -> list[PublishedRecord]:
    at = 2 * GOP  # the frame that begins the third GOP
    made: list[PublishedRecord] = []
    for record in good:
        if record.topic == "pads":
            made.append(record)
            continue
        frame = VideoFrame.FromString(record.value)
        if kind is Kind.RESTARTED and at - _LOST <= frame.sequence < at:
            continue
        _spoil(frame, kind, at)
        made.append(replace(record, value=frame.SerializeToString(deterministic=True)))
    return made


def _spoil(frame: VideoFrame, kind: Kind, at: int) -> None:
    is_picture = frame.kind == VideoFrame.FRAME
    if kind is Kind.RESTARTED and frame.sequence >= at:
        frame.sequence -= at
        frame.frame_index -= at
    elif kind is Kind.RESIZED and frame.sequence == at:
        frame.stream.width = 2 * WIDTH
    elif kind is Kind.DAMAGED and frame.sequence == at + GOP // 2:
        unit = bytearray(frame.access_unit)
        unit[1] ^= 0xFF  # of the first length prefix
        frame.access_unit = bytes(unit)
    elif kind is Kind.UNDECODABLE and is_picture:
        nal = b"\x65" if frame.keyframe else b"\x41"
        frame.access_unit = struct.pack(">I", 20) + nal + bytes(19)
