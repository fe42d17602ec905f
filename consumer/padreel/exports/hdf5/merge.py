"""`padreel hdf5 merge`: several HDF5 exports as one. Their videos are hard-linked, and they stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import structlog

from padreel.dataset import files
from padreel.errors import DatasetError
from padreel.exports.export import Exported
from padreel.exports.hdf5.episode import Hdf5Episode, Hdf5Schema
from padreel.exports.hdf5.file import FILE, Hdf5File, open_hdf5
from padreel.exports.hdf5.video import manifest_line, video_problems
from padreel.exports.hdf5.write import VIDEO_PATH, write_file, write_manifest
from padreel.exports.once import make_once, refuse_strange
from padreel.exports.record import (
    RECORD,
    ExportedEpisode,
    ExportRecord,
    encode_record,
    read_record,
)
from padreel.training.build import Build, open_build
from padreel.training.source import digest_of
from padreel.training.write_tree import Tell
from padreel.training.write_videos import link_or_copy
from padreel.version import __version__

_log = structlog.get_logger("padreel.hdf5")
_SETTINGS: Final = {"format": "hdf5", "command": "merge"}


def merge_hdf5(paths: Sequence[Path], output: Path, tell: Tell) -> Exported:
    """Write the episodes of several exports, in the order given, into `output`.

    Raises DatasetError where one cannot be used, two have different schemas or the same episode, or the output is
    something else; OSError.
    """
    with ExitStack() as opened:
        build = opened.enter_context(open_build(output))
        there = read_record(output)
        refuse_strange(output, there)
        sources = [opened.enter_context(open_hdf5(path)) for path in paths]
        digests = [files.sha256_of(source.path) for source in sources]
        config_hash = digest_of({**_SETTINGS, "sources": digests})

        def write() -> ExportRecord:
            _log.info("merging", run=build.run, sources=[str(path) for path in paths], settings=_SETTINGS)
            _check_schemas(sources)
            record = _record(build, paths, sources, config_hash, _write(build, sources, tell))
            build.put(RECORD, encode_record(record))
            build.put_checksums()
            return record

        return Exported(*make_once(build, output, there, config_hash, "an export", write))


def _check_schemas(sources: Sequence[Hdf5File]) -> None:
    first = sources[0]
    for other in sources[1:]:
        for one in fields(Hdf5Schema):
            a, b = getattr(first.schema, one.name), getattr(other.schema, one.name)
            if a != b:
                raise DatasetError(
                    f"{first.path} and {other.path} have different schemas: {one.name}: {a!r} and {b!r}; merge them "
                    "into one export each"
                )


def _write(build: Build, sources: Sequence[Hdf5File], tell: Tell) -> tuple[ExportedEpisode, ...]:
    owners: dict[tuple[str, int], Hdf5File] = {}
    lines: list[dict[str, Any]] = []
    made: list[ExportedEpisode] = []
    total = sum(source.count for source in sources)

    def episodes() -> Iterator[Hdf5Episode]:
        for source in sources:
            for old in source.episodes():
                origin = old.origin
                other = owners.setdefault((origin.shard, origin.commit), source)
                if other is not source:
                    raise DatasetError(
                        f"{other.path} and {source.path} both have the episode of session {origin.session} from commit "
                        f"{origin.commit}; leave one of them out"
                    )
                n = len(made)
                episode = replace(old, video=VIDEO_PATH.format(n), origin=replace(origin, index=n))
                digest = _link(build, source, old, Path(episode.video))
                lines.append(manifest_line(build.tree, n, episode, source.schema, digest))
                made.append(episode.origin)
                tell("episodes", n + 1, total)
                yield episode

    write_file(build, sources[0].schema, episodes())
    write_manifest(build, lines)
    return tuple(made)


def _link(build: Build, source: Hdf5File, old: Hdf5Episode, name: Path) -> str:
    """Give an episode's video its new name; its sha256."""
    video = source.path.parent / old.video
    digest = files.sha256_of(video)
    problems = video_problems(video, old, source.schema) if digest else [f"{video}: missing"]
    if digest is None or problems:
        raise DatasetError(f"{problems[0]}; `padreel hdf5 validate {source.path.parent}` says what else is wrong")
    build.make_parents({name})
    if not build.has(name):
        link_or_copy(video, build.tree / name, digest)
    build.digests[str(name)] = digest
    return digest


def _record(
    build: Build,
    paths: Sequence[Path],
    sources: Sequence[Hdf5File],
    config_hash: str,
    episodes: tuple[ExportedEpisode, ...],
) -> ExportRecord:
    records = [read_record(source.path.parent) for source in sources if source.path.name == FILE.name]
    return ExportRecord(
        format="hdf5",
        version=__version__,
        run=build.run,
        config_hash=config_hash,
        settings=dict(_SETTINGS),
        source=", ".join(map(str, paths)),
        source_run=", ".join(one.run for one in records if one is not None),
        source_config_hash=", ".join(one.config_hash for one in records if one is not None),
        total_episodes=len(episodes),
        total_frames=sum(one.frames for one in episodes),
        left_out=(),
        episodes=episodes,
    )
