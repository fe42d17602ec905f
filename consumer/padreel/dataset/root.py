"""The output root: which source and schema its shards belong to, and whether its filesystem can hold them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from padreel.dataset import codec, files
from padreel.dataset.layout import ROOT_FILE, DatasetSpec
from padreel.errors import FilesystemError, FormatVersionError, RootMismatchError
from padreel.model import Schema

FORMAT_VERSION = 1
# What systems say where there are no hard links. Whatever else fails may work when it is tried again.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EXDEV}

_OTHER_ROOT = "use another --output-root, or the {} that this root was made with"
_REMEDIES = {
    "cluster_id": "use another --output-root for another Kafka cluster",
    "partitions": "use another --output-root: a changed partition count moves sessions between partitions",
    "group": _OTHER_ROOT.format("--group-id"),
    "frames_topic": _OTHER_ROOT.format("topic"),
    "pads_topic": _OTHER_ROOT.format("topic"),
    "schema.codec": _OTHER_ROOT.format("--codec"),
    "schema.width": _OTHER_ROOT.format("--size"),
    "schema.height": _OTHER_ROOT.format("--size"),
    "schema.fps": _OTHER_ROOT.format("--fps"),
    "columns": _OTHER_ROOT.format("--columns"),
    "game_id": _OTHER_ROOT.format("--game-definition"),
    "class_ids": _OTHER_ROOT.format("--action-mapping"),
    "action_names": _OTHER_ROOT.format("--game-definition and --action-mapping"),
    "key_names": _OTHER_ROOT.format("--action-mapping"),
}

_TRIAL = ".probe-"
_TRIAL_SECONDS = 3600  # a trial takes milliseconds: one that is older is nobody's any more


@dataclass(frozen=True, slots=True)
class RootIdentity:
    """What all shards of a root have in common. `convert` leaves what it has not empty or 0."""

    cluster_id: str
    frames_topic: str
    pads_topic: str
    partitions: int
    group: str
    schema: Schema
    columns: str
    game_id: str
    class_ids: tuple[str, ...]
    action_names: tuple[str, ...]
    key_names: tuple[str, ...] = ()


def identity_of(
    spec: DatasetSpec,
    *,
    cluster_id: str = "",
    frames_topic: str = "",
    pads_topic: str = "",
    partitions: int = 1,
    group: str = "",
) -> RootIdentity:
    """What the shards of this dataset have in common; without Kafka there is no more to say than the dataset's part."""
    return RootIdentity(
        cluster_id=cluster_id,
        frames_topic=frames_topic,
        pads_topic=pads_topic,
        partitions=partitions,
        group=group,
        schema=spec.schema,
        columns=spec.columns,
        game_id=spec.game_id,
        class_ids=spec.class_ids,
        action_names=spec.encoder.names,
        key_names=spec.key_names,
    )


def open_root(output_root: Path, identity: RootIdentity) -> None:
    """Make the root this identity's, once, or see that it is.

    Raises FilesystemError if the filesystem cannot hold a live shard, RootMismatchError with field, found, expected
    and remedy, FormatVersionError if a newer padreel made the root, OSError.
    """
    files.make_folder(output_root)
    probe_filesystem(output_root)
    path = output_root / ROOT_FILE
    body = {"format_version": FORMAT_VERSION, **codec.encode(identity)}
    temp = output_root / f".{ROOT_FILE}.{uuid4().hex}"
    if not files.exists(path):
        try:
            files.write_durable(temp, json.dumps(body, indent=2, ensure_ascii=False).encode() + b"\n")
            with contextlib.suppress(FileExistsError):  # another consumer of the same start was faster
                files.link_once(temp, path)
            files.fsync_folder(output_root)
        finally:
            files.unlink(temp)
    compare(path, identity)


def compare(path: Path, identity: RootIdentity) -> None:
    """Raises RootMismatchError, FormatVersionError if `path` does not hold this identity; OSError."""
    found = _read(path)
    expected = codec.encode(identity)
    for field, value in _flat(expected):
        there = _look_up(found, field)
        if there != value:
            raise RootMismatchError(
                f"{path}: {field}: found {json.dumps(there)}, expected {json.dumps(value)}; "
                f"{_REMEDIES.get(field, 'use another --output-root')}"
            )


def read_root(output_root: Path) -> RootIdentity:
    """The identity that a root was made with. Raises RootMismatchError, FormatVersionError, OSError."""
    identity: RootIdentity = codec.decode(RootIdentity, _read(output_root / ROOT_FILE))
    return identity


def _read(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_bytes())
    except ValueError as error:
        raise RootMismatchError(f"{path}: no JSON ({error}); restore it from a copy of the root") from error
    version = body.pop("format_version", None) if isinstance(body, dict) else None
    if type(version) is not int or version < 1:
        raise RootMismatchError(f"{path}: format_version: found {version!r}, expected {FORMAT_VERSION}; not padreel's?")
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{path}: format_version {version} is newer than {FORMAT_VERSION}, the newest this padreel knows; "
            "run the version that wrote it, or a later one"
        )
    body.setdefault("key_names", [])  # roots made before keys could be bound
    try:
        codec.decode(RootIdentity, body)
    except codec.CodecError as error:
        raise RootMismatchError(f"{path}: {error}; restore it from a copy of the root") from error
    content: dict[str, Any] = body
    return content


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, one in value.items():
        pairs += _flat(one, f"{name}.") if isinstance(one, dict) else [(prefix + name, one)]
    return pairs


def _look_up(value: Any, field: str) -> Any:
    for name in field.split("."):
        value = value[name]
    return value


def probe_filesystem(folder: Path) -> None:
    """See that hard links and atomic replacement work as commits need them.

    Raises FilesystemError naming what does not: object stores, SMB and FUSE buckets fail here. OSError if the folder
    cannot be written at all.
    """
    trial = folder / f"{_TRIAL}{uuid4().hex}"
    trial.mkdir()
    try:
        _probe(trial)
        _sweep_trials(folder, before=trial.stat().st_mtime - _TRIAL_SECONDS)
    finally:
        _remove_trial(trial)


def _sweep_trials(folder: Path, *, before: float) -> None:
    """Remove what processes that were killed amid their trial have left; `before` by the filesystem's own clock."""
    for name in os.listdir(folder):
        trial = folder / name
        with contextlib.suppress(FileNotFoundError):  # others sweep too
            if name.startswith(_TRIAL) and trial.stat().st_mtime < before:
                _remove_trial(trial)


def _remove_trial(trial: Path) -> None:
    for name in os.listdir(trial):
        (trial / name).unlink()
    trial.rmdir()


def _probe(trial: Path) -> None:
    first, second, name = trial / "first", trial / "second", trial / "name"
    files.write_durable(first, b"first")
    files.write_durable(second, b"second")
    try:
        os.link(first, name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise _unfit(trial, f"link() fails ({error.strerror})", "hard links") from error
    links = first.stat().st_nlink
    if links != 2:
        raise _unfit(trial, f"st_nlink is {links} after link()", "2")
    try:
        os.link(second, name)
    except FileExistsError:
        pass
    else:
        raise _unfit(trial, "a second link() to a name that is taken succeeds", "EEXIST")
    if name.read_bytes() != b"first":
        raise _unfit(trial, "a refused link() changed the file", "the first content")
    os.replace(second, name)
    if name.read_bytes() != b"second" or "second" in os.listdir(trial):
        raise _unfit(trial, "a rename over a file is not visible at once", "the new content under the name")
    files.fsync_folder(trial)


def _unfit(trial: Path, found: str, expected: str) -> FilesystemError:
    return FilesystemError(
        f"{trial.parent}: {found}, expected {expected}; put the output root on a local disk, NFS, EFS or CephFS: "
        "object stores, SMB and FUSE buckets cannot hold a live dataset"
    )
