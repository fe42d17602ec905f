"""Write a synthetic session as a recorder's folder: `capture.mp4`, `sync.csv`, `actions.bin`."""

from __future__ import annotations

import csv
import io
import struct
from pathlib import Path

import av
from av.video.stream import VideoStream

from padreel_shim.synthetic import SyntheticRig


def write_session_folder(path: Path, rig: SyntheticRig) -> None:
    """Write `rig`'s session into the new folder `path`.

    The mp4 holds the access units that `rig.records()` publishes, byte for byte, and `actions.bin` its EVENTs.
    Raises FileExistsError if the folder is there already.
    """
    path.mkdir(parents=True)
    _write_capture(path / "capture.mp4", rig)
    with (path / "sync.csv").open("w", newline="", encoding="ascii") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("frame_index", "monotonic_ns", "pts"))
        rows.writerows((index, rig.frame_ns(index), rig.pts_ns(index)) for index in range(rig.frame_count))
    with (path / "actions.bin").open("wb") as file:
        for event in rig.script.events():
            payload = rig.pad_payload(event.sequence, event.time_ns, event.state)
            file.write(struct.pack("<I", len(payload)) + payload)


def _write_capture(path: Path, rig: SyntheticRig) -> None:
    # A template that knows no more than the codec's name gives a stream without an encoder.
    with av.open(io.BytesIO(), "r", format="h264") as template, av.open(str(path), "w", format="mp4") as output:
        source = template.streams.video[0]
        stream: VideoStream | None = None
        for _, unit, extradata in rig.units():
            if stream is None:
                stream = output.add_stream_from_template(source, opaque=True)
                context = stream.codec_context
                context.width, context.height, context.extradata = rig.width, rig.height, extradata
                context.codec_tag = "avc1"
                context.color_range = context.colorspace = context.color_primaries = context.color_trc = 1
                stream.time_base = 1 / rig.fps
            packet = av.Packet(unit.data)
            packet.stream = stream
            packet.time_base = 1 / rig.fps
            packet.pts, packet.dts, packet.duration = unit.frame_index, unit.dts, 1
            packet.is_keyframe = unit.keyframe
            output.mux(packet)
