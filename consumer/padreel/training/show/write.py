"""Renders an episode into a file: a video of every frame, or one sheet with some of them. Blocking.

The video is encoded: a rendering for people, not the recording. The same episode gives the same bytes, as long as
padreel, PyAV and Pillow are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import av
from av.error import FFmpegError
from PIL import Image

from padreel.dataset import files
from padreel.errors import CorruptShardError, DatasetError, InputError
from padreel.training.show.draw import Canvas
from padreel.training.show.read import ShownEpisode
from padreel.training.show.screen import Screen
from padreel.video import VideoReader, open_video_reader

Step = Callable[[int, int], None]  # how many pictures are drawn, of how many

_ENCODER: Final = "libx264"
_BT709: Final = 1  # of color_space, color_primaries and color_trc
_LIMITED: Final = 1  # of color_range
# The number of threads decides bytes, so it must not be the machine's.
_OPTIONS: Final = {"preset": "veryfast", "crf": "23", "threads": "2", "x264-params": "cpu-independent=1"}


def write_video(episode: ShownEpisode, path: Path, step: Step) -> None:
    """Write an mp4 with a picture per row, durably, into `path`, which is not there yet.

    Raises CorruptShardError where the episode's pictures cannot be read, DatasetError where this PyAV cannot encode,
    OSError.
    """
    screen = Screen(episode)
    with _pictures(episode) as reader, _durable(path) as file:
        sink = _Sink(file)
        with _media_errors(sink, path), av.open(sink, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            stream = _video_stream(container, screen, episode.fps)
            for first, end in screen.pages():
                page = screen.page(first, end)
                for row in range(first, end):
                    canvas = screen.moment(_picture(reader, episode, row), row, page, first, end)
                    container.mux(stream.encode(_encodable(canvas, row)))
                    step(row + 1, episode.length)
            container.mux(stream.encode(None))


def write_sheet(episode: ShownEpisode, path: Path, pictures: int, step: Step) -> None:
    """Write a PNG with that many pictures and the whole timeline, as `write_video` does."""
    screen = Screen(episode)
    rows = screen.sheet_rows(pictures)
    with _pictures(episode) as reader:
        shown = []
        for row in rows:
            shown.append(_picture(reader, episode, row))
            step(len(shown), len(rows))
    sheet = screen.sheet(shown, rows)
    with _durable(path) as file:
        Image.fromarray(sheet).save(file, "PNG", optimize=False, compress_level=9)


def _video_stream(container: av.container.OutputContainer, screen: Screen, fps: int) -> av.VideoStream:
    try:
        stream = container.add_stream(_ENCODER, rate=fps, options=_OPTIONS)
    except (ValueError, FFmpegError) as error:
        raise DatasetError(f"this PyAV has no encoder {_ENCODER} ({error}): use --format png") from error
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height = screen.size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.gop_size = 2 * fps  # so that people can jump
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED
    return stream


def _encodable(canvas: Canvas, row: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(canvas, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    frame.pts = row
    return frame


def _picture(reader: VideoReader, episode: ShownEpisode, row: int) -> Canvas:
    try:
        return reader[episode.first_picture + row]
    except (InputError, IndexError) as error:
        raise CorruptShardError(f"{error}: the picture of row {row}; `padreel check --deep` says more") from error


@contextmanager
def _pictures(episode: ShownEpisode) -> Iterator[VideoReader]:
    try:
        reader, _ = open_video_reader(episode.video)
    except InputError as error:
        raise CorruptShardError(f"{error}; restore it from a copy") from error
    with reader:
        if len(reader) < episode.first_picture + episode.length:
            wanted = f"expected {episode.length} from {episode.first_picture} on"
            raise CorruptShardError(f"{episode.video}: found {len(reader)} pictures, {wanted}; restore it from a copy")
        yield reader


@contextmanager
def _durable(path: Path) -> Iterator[IO[bytes]]:
    """A new file; removed again if it is not completed."""
    try:
        with files.announced("write", path), path.open("xb") as file:
            yield file
            file.flush()
            with files.announced("fsync", path):
                os.fsync(file.fileno())
    except BaseException:
        files.unlink(path)
        raise


class _Sink:
    """What the muxer writes into: a file, and the first error that the system had about it.

    Of that the muxer says only that there was one.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _media_errors(sink: _Sink, path: Path) -> Iterator[None]:
    """What the disk or the encoder says, as an OSError that names the file."""
    try:
        yield
    except (FFmpegError, OSError) as error:
        cause = sink.error or error
        raise OSError(cause.errno, cause.strerror, str(path)) from error
