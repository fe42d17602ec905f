"""Decoding videos to see whether they can be, and reading their packets. Blocking."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from padreel.dataset.remux import decoder_limits, open_span, system_errors
from padreel_schemas import capture


@dataclass(frozen=True, slots=True)
class Packets:
    """The packets of an mp4 in decode order; times are in frames where they can be, else Fractions of one.

    `rate` is what the container says, `extradata` the decoder configuration in it.
    """

    pts: tuple[Fraction, ...]
    durations: tuple[Fraction, ...]
    keys: tuple[bool, ...]
    rate: Fraction | None
    size: tuple[int, int]
    extradata: bytes


def read_packets(path: Path, fps: int, width: int, height: int) -> Packets | str:
    """Read the packets of one mp4 of a dataset; in words why it cannot be read. Nothing is decoded."""
    pts: list[Fraction] = []
    durations: list[Fraction] = []
    keys: list[bool] = []
    try:
        with open_span(path, width, height) as container:
            if not container.streams.video:
                return f"{path}: no video stream"
            video = container.streams.video[0]
            for packet in capture.packets_of(video):
                if packet.pts is None or packet.time_base is None:
                    return f"{path}: packet {len(pts)} has no time"
                if packet.is_discard:
                    return f"{path}: packet {len(pts)} is hidden by the edit list"
                pts.append(packet.pts * packet.time_base * fps)
                durations.append((packet.duration or 0) * packet.time_base * fps)
                keys.append(packet.is_keyframe)
            rate, context = video.average_rate, video.codec_context
            extradata, size = bytes(context.extradata or b""), (context.width, context.height)
    except (OSError, av.FFmpegError) as error:
        return f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
    return Packets(tuple(pts), tuple(durations), tuple(keys), rate, size, extradata)


def count_pictures(path: Path) -> int | str:
    """How many pictures all of a video decodes to, from start to end; in words what keeps it from that."""
    count = 0
    try:
        with system_errors(), capture.open_video(path) as container:
            video = container.streams.video[0]
            video.thread_type = "AUTO"
            for picture in container.decode(video):
                if picture.is_corrupt:
                    return f"{path.name}: picture {count} is damaged"
                count += 1
    except (OSError, IndexError) as error:
        return f"{path.name}: picture {count} cannot be decoded: {getattr(error, 'strerror', None) or error}"
    return count


def rate_in_stream(path: Path, width: int, height: int) -> Fraction | None:
    """The rate that the coded stream itself claims (its VUI), which decoding one picture tells; None if none."""
    try:
        with open_span(path, width, height) as container:
            video = container.streams.video[0]
            # A decoder that knows nothing of the container, which has a rate of its own.
            decoder = av.CodecContext.create(video.codec_context.name, "r")
            assert isinstance(decoder, av.VideoCodecContext)
            decoder.extradata = video.codec_context.extradata
            decoder.options = decoder_limits(width, height)
            packet = next(capture.packets_of(video), None)
            if packet is not None:
                decoder.decode(packet)
                decoder.decode(None)
            rate = decoder.framerate
    except (OSError, IndexError, av.FFmpegError):
        return None  # that it cannot be read is another check's finding
    return Fraction(rate) if rate else None
