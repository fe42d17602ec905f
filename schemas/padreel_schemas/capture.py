"""The video of a recording: which file it is, its stream and its packets. Nothing is decoded."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream as AvVideoStream

from padreel_schemas.v1.video_pb2 import VideoStream

VIDEO = "capture.mp4"
# An mp4 can be read once it is closed, unless it is fragmented; the others while they grow.
VIDEOS = (VIDEO, "capture.mkv", "capture.ts")
CODECS = ("h264", "hevc", "av1")
_UINT32_END = 2**32


class RecordingError(Exception):
    """A session folder that cannot be used; names the file, what was found and what was expected."""


def video_path(folder: Path) -> Path:
    """Return a session folder's video file; where there is none, where it is expected.

    Raises RecordingError where there is more than one.
    """
    found = [name for name in VIDEOS if (folder / name).exists()]
    if len(found) > 1:
        raise RecordingError(f"{folder}: has {' and '.join(found)}, expected one video file")
    return folder / (found[0] if found else VIDEO)


def open_video(path: Path, *, is_known: bool = False) -> InputContainer:
    """Open a video to read. Where its stream `is_known` no picture is decoded to find out more of it."""
    options = {"skip_frame": "all"} if is_known else {}
    return av.open(str(path), options=options, metadata_errors="replace")  # nobody reads its texts


def packets_of(video: AvVideoStream) -> Iterator[Packet]:
    """Yield the stream's packets in decode order without the empty one that ends a demux."""
    container = video.container
    assert isinstance(container, InputContainer)
    for packet in container.demux(video):
        if packet.size:
            yield packet


def read_video(path: Path) -> tuple[VideoStream, list[int]]:
    """Return the stream and each packet's display position, from the timestamps alone."""
    try:
        with open_video(path) as container:
            if not container.streams.video:
                raise RecordingError(f"{path}: no video stream, expected one")
            video = container.streams.video[0]
            stream = stream_of(path, video)
            stamps: list[int] = []
            hidden = 0
            for packet in packets_of(video):
                if packet.pts is None:
                    raise RecordingError(f"{path}: frame {len(stamps)} in decode order has no pts")
                hidden += packet.is_discard
                stamps.append(packet.pts)
    except (OSError, FFmpegError) as error:
        raise RecordingError(unreadable(path, error)) from error
    if not stamps:
        raise RecordingError(f"{path}: no frames, expected at least one")
    if hidden:
        raise RecordingError(
            f"{path}: its edit list hides {hidden} of {len(stamps)} frames, expected none hidden; "
            "copy it without the edit list"
        )
    ordered = sorted(stamps)
    if any(one == other for one, other in itertools.pairwise(ordered)):
        raise RecordingError(f"{path}: two frames have one pts, so their order is unknown; expected one frame per pts")
    return stream, [bisect_left(ordered, stamp) for stamp in stamps]


def stream_of(path: Path, video: AvVideoStream) -> VideoStream:
    # av says that there always is one, but where FFmpeg knows no decoder there is none.
    context: VideoCodecContext | None = video.codec_context
    name = context.codec.canonical_name if context is not None else "unknown"  # not the decoder's, such as libdav1d
    if context is None or name not in CODECS:
        raise RecordingError(f"{path}: codec is {name}, expected {', '.join(CODECS[:-1])} or {CODECS[-1]}")
    if not context.extradata:
        raise RecordingError(f"{path}: no extradata (avcC, hvcC, av1C or parameter sets), expected one")
    if context.width <= 0 or context.height <= 0:
        raise RecordingError(f"{path}: picture size is {context.width}x{context.height}, expected one above 0x0")
    rate = video.average_rate or video.guessed_rate
    if not rate or rate <= 0:
        raise RecordingError(f"{path}: frame rate is unknown")
    rate = Fraction(rate).limit_denominator(1_000_000)
    if not 0 < rate.numerator < _UINT32_END:
        raise RecordingError(f"{path}: frame rate is {rate}, which no camera has")
    return VideoStream(
        codec=name,
        width=context.width,
        height=context.height,
        fps_num=rate.numerator,
        fps_den=rate.denominator,
        extradata=context.extradata,
        color_range=int(context.color_range),
        color_space=int(context.colorspace),
        color_primaries=int(context.color_primaries),
        color_transfer=int(context.color_trc),
    )


def unreadable(path: Path, error: Exception) -> str:
    """Say why a file of a session folder cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: is missing, expected {VIDEO}, sync.csv and actions.bin in a session folder"
    return f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
