"""The HDF5 file of an export: its layout, writing it, and reading it back with everything that can be said against it.

    /                       format, format_version, fps, width, height, codec, action_names, state_names, key_names, ...
    /episodes/<n>           task, video, from_timestamp, to_timestamp, fps, and whence the episode is
    /episodes/<n>/actions       (rows, slots) float32
    /episodes/<n>/state         (rows, 27)    float32, where it was recorded
    /episodes/<n>/keys          (rows, keys)  float32, where there are any
    /episodes/<n>/timestamps    (rows,)       float64, seconds: row / fps
    /episodes/<n>/frame_index   (rows,)       int64
    /episodes/<n>/time_ns       (rows,)       int64, nanoseconds since the session's first frame, where recorded
    /episodes/<n>/pad_age       (rows,)       float32, seconds since the paired EVENT, where recorded

What is not an array is an attribute. Row i is the picture at from_timestamp + i / fps of the mp4 `video`, a path
relative to the file. Equal episodes make equal bytes: no times are stored, and the file's format is a fixed one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from padreel.errors import DatasetError, FormatVersionError
from padreel.exports.hdf5.episode import ARRAYS, Hdf5Episode, Hdf5Schema, problems_of
from padreel.exports.record import ExportedEpisode

FORMAT: Final = "padreel.hdf5"
FORMAT_VERSION: Final = 1
FILE: Final = Path("episodes.hdf5")
_LIBVER: Final = ("earliest", "v108")  # later ones store times in groups
_ORIGIN: Final = {
    one.name: {"int": int, "str": str, "float | None": float}[str(one.type)]
    for one in dataclasses.fields(ExportedEpisode)
    if one.name not in ("index", "task", "frames")
}


def import_h5py() -> Any:
    """The h5py module. Raises DatasetError where it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise DatasetError("HDF5 needs h5py, which is not installed: pip install 'padreel[hdf5]'") from error
    return h5py


class _Sink(io.RawIOBase):
    """The file that HDF5 writes into. It hides from HDF5 that it cannot be written any more, and remembers it.

    Told of a full disk HDF5 cannot even close the file: each object that it still has prints a traceback.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._file = path.open("x+b", buffering=0)

    def readinto(self, target: Any) -> int:
        return self._file.readinto(target) or 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def close(self) -> None:
        self._file.close()
        super().close()


class Hdf5Writer:
    """Writes episodes one after the other into a file that is not there yet. Raises DatasetError, OSError."""

    def __init__(self, path: Path, schema: Hdf5Schema) -> None:
        self._schema, self._count, self._path = schema, 0, path
        h5py = import_h5py()
        self._sink, self._file = _Sink(path), None
        try:
            with self._errors():
                self._file = h5py.File(self._sink, "w", libver=_LIBVER)
                told = {"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(schema)}
                for name, value in told.items():
                    strings = isinstance(value, tuple)
                    kind = h5py.string_dtype() if strings else None
                    self._file.attrs.create(name, np.array(value, object) if strings else value, dtype=kind)
                self._episodes = self._file.create_group("episodes")
        except BaseException:
            self.discard()
            raise

    def append(self, episode: Hdf5Episode) -> None:
        """Add an episode under the next number."""
        if problems := problems_of(episode, self._schema):
            raise DatasetError(f"{self._path}: episode {self._count}: {problems[0]}")
        with self._errors():
            group = self._episodes.create_group(str(self._count))
            for name in ARRAYS:
                if name in episode.arrays:
                    group.create_dataset(name, data=episode.arrays[name], track_times=False)
            told: dict[str, Any] = {
                "task": episode.task,
                "video": episode.video,
                "from_timestamp": episode.from_timestamp,
                "to_timestamp": episode.to_timestamp,
                "fps": episode.fps,
            }
            for name in _ORIGIN:
                value = getattr(episode.origin, name)
                told[name] = math.nan if value is None else value
            for name, value in told.items():
                group.attrs[name] = value
        self._count += 1

    def close(self) -> None:
        """Complete the file; it is not fsynced. A second call does nothing."""
        file, self._file = self._file, None
        try:
            with self._errors():
                if file is not None:
                    file.close()
        finally:
            self._sink.close()

    def discard(self) -> None:
        """Give the file up: close it, and unlink it if it is there."""
        with contextlib.suppress(OSError):
            self.close()
        self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise what the file met, whatever HDF5 makes of it."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise self._sink.error or OSError(errno.EIO, str(error), str(self._path)) from error
        if self._sink.error is not None:
            raise OSError(self._sink.error.errno, self._sink.error.strerror, str(self._path))


class Hdf5File:
    """A file to read, as `open_hdf5` gives it."""

    def __init__(self, path: Path, file: Any) -> None:
        """For `open_hdf5` alone. Raises DatasetError where the file is not of this layout."""
        self.path, self._file = path, file
        if _attribute(file, "format", str, str(path)) != FORMAT:
            raise DatasetError(f"{path}: format: found {file.attrs['format']!r}, expected {FORMAT!r}")
        version = _attribute(file, "format_version", int, str(path))
        if version != FORMAT_VERSION:
            raise FormatVersionError(
                f"{path}: format_version {version} is unknown, the newest this padreel knows is {FORMAT_VERSION}; "
                "run the version that wrote it, or a later one"
            )
        kinds = {"int": int, "str": str, "tuple[str, ...]": tuple}
        fields = dataclasses.fields(Hdf5Schema)
        self.schema = Hdf5Schema(
            **{one.name: _attribute(file, one.name, kinds[str(one.type)], str(path)) for one in fields}
        )
        group = file.get("episodes")
        names = set() if group is None else set(group)
        self.count = len(names)
        if not names or names != {str(n) for n in range(self.count)}:
            raise DatasetError(f"{path}: /episodes: found {sorted(names)[:5]}, expected 0, 1, 2, ..., one at least")

    def episode(self, n: int) -> Hdf5Episode:
        """Episode `n`, with nothing to say against it. Raises DatasetError."""
        episode = self.read(n)
        if problems := problems_of(episode, self.schema):
            raise DatasetError(f"{self.path}: episode {n}: {problems[0]}")
        return episode

    def episodes(self) -> Iterator[Hdf5Episode]:
        """All of them in order, each as `episode` has it."""
        for n in range(self.count):
            yield self.episode(n)

    def read(self, n: int) -> Hdf5Episode:
        """Episode `n` as it is there. Raises DatasetError where something is missing or of another type."""
        group, where = self._file["episodes"][str(n)], f"{self.path}: /episodes/{n}"
        with _as_dataset_errors(Path(where)):
            if unknown := sorted(set(group) - ARRAYS.keys()):
                raise DatasetError(f"{where}: unknown: {', '.join(unknown)}")
            arrays = {name: group[name][()] for name in ARRAYS if name in group}
        if missing := sorted(self.schema.arrays() - arrays.keys()):
            raise DatasetError(f"{where}: missing: {', '.join(missing)}")
        for name, values in arrays.items():
            if not isinstance(values, np.ndarray) or values.dtype != ARRAYS[name][0]:
                found = getattr(values, "dtype", type(values).__name__)
                raise DatasetError(f"{where}/{name}: found {found}, expected {np.dtype(ARRAYS[name][0])}")
        task = _attribute(group, "task", str, where)
        origin = {name: _attribute(group, name, kind, where) for name, kind in _ORIGIN.items()}
        if math.isnan(origin["quality"]):
            origin["quality"] = None
        return Hdf5Episode(
            arrays=arrays,
            task=task,
            video=_attribute(group, "video", str, where),
            from_timestamp=_attribute(group, "from_timestamp", float, where),
            to_timestamp=_attribute(group, "to_timestamp", float, where),
            fps=_attribute(group, "fps", int, where),
            origin=ExportedEpisode(index=n, task=task, frames=len(arrays["actions"]), **origin),
        )


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5File]:
    """Open a file, or the one in an export's folder. Raises DatasetError where it is none that can be read, OSError."""
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise DatasetError(f"{path}: missing, expected an HDF5 file that `padreel export --format hdf5` has made")
    h5py = import_h5py()
    with _as_dataset_errors(path):
        file = h5py.File(path, "r")
    with file:
        yield Hdf5File(path, file)


def _attribute(owner: Any, name: str, kind: type, where: str) -> Any:
    value = owner.attrs.get(name)
    if kind is tuple and isinstance(value, np.ndarray):
        return tuple(one.decode() if isinstance(one, bytes) else str(one) for one in value)
    found = value.item() if isinstance(value, np.generic) else value
    if type(found) is not kind:
        raise DatasetError(f"{where}: attribute {name}: found {found!r}, expected {kind.__name__}")
    return found


@contextlib.contextmanager
def _as_dataset_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as HDF5 ({error}); restore it, or export anew") from error
