"""`padreel relabel`: a merged dataset under another action mapping. Its videos stay, its source is not touched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import structlog

from padreel.core.action import ActionDefinition, ActionEncoder, GameClass, GameDefinition
from padreel.dataset import files, layout
from padreel.dataset.layout import DatasetSpec
from padreel.dataset.projection import checked_table
from padreel.dataset.stats import Stats, aggregate_stats, column_stats
from padreel.errors import CorruptShardError, DatasetError
from padreel.profiles import load_action_mapping_profile, load_game_definition
from padreel.training import describe
from padreel.training.build import Build, is_taken, open_build, update_is_interrupted
from padreel.training.checksums import CHECKSUMS, check_listed, read_checksums
from padreel.training.lerobot_check import load_with_lerobot
from padreel.training.manifest import MANIFEST, Manifest, Run, encode_manifest, read_manifest
from padreel.training.merge.merge import schema_of
from padreel.training.relabel.rows import relabel_rows, split_events
from padreel.training.settings import RelabelSettings
from padreel.training.source import digest_of
from padreel.training.tree import episode_files, read_info, read_schema, read_table
from padreel.training.write_rows import write_table_file
from padreel.training.write_tree import Tell
from padreel.training.write_videos import check_whole, link_or_copy
from padreel.version import __version__

_log = structlog.get_logger("padreel.relabel")


@dataclass(frozen=True, slots=True)
class RelabelledSet:
    """What a relabelling did: `outcome` and what the output holds now."""

    outcome: Literal["created", "unchanged"]
    manifest: Manifest


def relabel(source: Path, settings: RelabelSettings, tell: Tell, named: Path | None = None) -> RelabelledSet:
    """Make `settings.output` of the merged dataset `source` by another action mapping.

    `named` is what the manifest says that it was made of, if not `source`.

    Raises ProfileError for a mapping that does not fit, DatasetError where the source cannot be relabelled or the
    output is something else; OSError.
    """
    before = read_manifest(source)
    if before is None:
        raise DatasetError(f"{source}: found no {MANIFEST}, expected a dataset that `padreel merge` has made")
    if update_is_interrupted(source):
        raise DatasetError(f"{source}: an update was interrupted: run `padreel merge --update` again first")
    listed = _listed(source, before)
    info = read_info(source)
    spec = _spec(source, info, settings)
    episodes = [[one.shard, one.commit, one.sha256] for one in before.episodes]
    recorded = {**settings.recorded(), "episodes": digest_of(episodes)}
    with open_build(settings.output) as build:
        there = refuse_taken(settings.output)
        if there is not None:
            if there.config_hash != digest_of(recorded):
                raise _taken(settings.output)
            build.clear()  # a run that died at its last step has left something
            return RelabelledSet("unchanged", there)
        build.begin(digest_of({"version": __version__, "settings": recorded}))
        _log.info("relabelling", run=build.run, source=str(source), settings=settings.resolved())
        manifest = _Writer(source, build, spec, info, listed, tell).write(before, recorded, settings, named or source)
    return RelabelledSet("created", manifest)


def refuse_taken(output: Path) -> Manifest | None:
    """What a relabelling has made of the output. Raises DatasetError where something else is there, OSError."""
    there = read_manifest(output) if files.exists(output) else None
    if there is not None and there.command == "relabel":
        return there
    if is_taken(output):
        raise _taken(output)
    return None


def _taken(output: Path) -> DatasetError:
    return DatasetError(f"--output: {output}: found something else there, expected nothing; name another")


def _listed(source: Path, before: Manifest) -> dict[str, str]:
    """The source's list of sha256, with what is read of the source compared to it; videos are looked at as they go.

    Raises DatasetError where a file is another than was written, OSError.
    """
    listed = read_checksums(source / CHECKSUMS)
    counts = [sum(name.startswith(top) for name in listed) for top in ("videos/", "gamepad/")]
    if counts != [before.videos, before.total_episodes]:
        raise DatasetError(
            f"{source / CHECKSUMS}: lists {counts[0]} videos and {counts[1]} gamepad files, expected {before.videos} "
            f"and {before.total_episodes} by {MANIFEST}; restore it, or merge anew"
        )
    check_listed(source, listed, ("data/", "meta/"))
    return listed


def _spec(source: Path, info: Mapping[str, Any], settings: RelabelSettings) -> DatasetSpec:
    game_info = info["extensions"]["game_converter"]
    if layout.OBSERVATION not in info["features"] or layout.TIME_NS not in info["features"]:
        raise DatasetError(f"{source}: was recorded with minimal columns; its rows cannot be paired with EVENTs again")
    base = game_info.get("settings", {}).get("button_base", 0) if settings.button_base is None else settings.button_base
    profile = load_action_mapping_profile(settings.action_mapping, button_base=base)
    game = (
        load_game_definition(settings.game_definition) if settings.game_definition else _known_game(source, game_info)
    )
    encoder = ActionEncoder(game, profile, str(settings.action_mapping))
    return DatasetSpec(
        repo_id=settings.output.name,
        schema=schema_of(info),
        columns="full",
        encoder=encoder,
        default_task="",
        settings=_settings(game_info.get("settings", {}), base, profile.complete),
        game_id=game.game_id,
        class_ids=profile.class_ids,
        profile_name=profile.profile_name,
    )


def _settings(before: Mapping[str, Any], base: int, complete: bool) -> dict[str, Any]:
    """The settings as info.json has them, with what the mapping says; what was not there does not come."""
    told = {"button_base": base, "complete": complete}
    return {name: told.get(name, value) for name, value in before.items()}


def _known_game(source: Path, game_info: Mapping[str, Any]) -> GameDefinition:
    """As much of the game's definition as info.json has: the actions that are in the vector."""
    entries = game_info.get("action_layout", [])
    actions = tuple(ActionDefinition(one["action_id"], one["kind"]) for one in entries)
    if not actions or len({action.id for action in actions}) < len(actions):
        raise DatasetError(f"{source}: its info.json does not tell the game's actions apart; name --game-definition")
    first, *others = game_info["class_ids"]
    classes = (GameClass(first, actions), *(GameClass(one, ()) for one in others))
    return GameDefinition(game_info["game_id"], game_info["game_id"], classes)


class _Writer:
    """Writes the relabelled dataset into a build folder; what is complete there already is left as it is."""

    def __init__(
        self,
        source: Path,
        build: Build,
        spec: DatasetSpec,
        info: Mapping[str, Any],
        listed: Mapping[str, str],
        tell: Tell,
    ) -> None:
        self._source, self._build, self._spec, self._info, self._tell = source, build, spec, info, tell
        self._base = int(info["extensions"]["game_converter"].get("settings", {}).get("button_base", 0))
        self._listed = listed

    def write(self, before: Manifest, recorded: Mapping[str, Any], settings: RelabelSettings, named: Path) -> Manifest:
        """Write it all and give it its name. Raises CorruptShardError, OSError."""
        kept = [name for name in self._listed if name.startswith(("videos/", "gamepad/"))]
        self._build.make_parents({Path(name) for name in (*self._listed, *kept)})
        for i, name in enumerate(kept, 1):
            if not self._build.has(Path(name)):
                check_whole(self._source / name)
                link_or_copy(self._source / name, self._build.tree / name, self._listed[name])
            self._build.digests[name] = self._listed[name]
            self._tell("videos", i, len(kept))
        self._write_rows(before)
        own = {layout.INFO, MANIFEST}
        others = [Path(name) for name in self._listed if Path(name).parent == Path()]  # such as whose variants it has
        for described in dict.fromkeys((layout.TASKS, layout.CARD, *others)):
            if described not in own:
                self._build.put(described, (self._source / described).read_bytes())
        self._build.put(layout.INFO, self._new_info())
        run = Run(
            id=self._build.run,
            command="relabel",
            version=__version__,
            arguments=(str(named),),
            settings=settings.resolved(),
            first_episode=0,
            episodes=before.total_episodes,
        )
        manifest = replace(
            before,
            command="relabel",
            version=__version__,
            run=self._build.run,
            config_hash=digest_of(recorded),
            settings=dict(recorded),
            runs=(*before.runs, run),
        )
        self._build.put(MANIFEST, encode_manifest(manifest))
        self._build.put_checksums()
        if settings.needs_lerobot:
            load_with_lerobot(self._build.tree)
        self._build.publish_new()
        return manifest

    def _write_rows(self, before: Manifest) -> None:
        """Data files, and with what is found in them episodes file and statistics."""
        schema = _with_others(describe.episodes_schema(layout.features(self._spec)), self._source)
        total: list[Mapping[str, Stats] | None] = [None]
        number = [0]

        def rows(metas: Sequence[dict[str, Any]], fresh: list[dict[str, Any]]) -> Iterator[pa.Table]:
            data = read_table(self._source / self._data_name(metas[0]))
            at = 0
            for meta in metas:
                table = data.slice(at, meta["length"])
                at += meta["length"]
                made = self._relabelled(table, meta)
                stats = self._stats(meta, made.columns)
                total[0] = aggregate_stats(total[0], stats)
                fresh.append(_with_stats(meta, stats, schema))
                number[0] += 1
                self._tell("rows", number[0], before.total_episodes)
                yield made.table

        def metadata() -> Iterator[pa.Table]:
            for metas in self._by_data_file():
                fresh: list[dict[str, Any]] = []
                name = self._data_name(metas[0])
                # The statistics come out of the rows, so these are always made anew.
                write_table_file(self._build.tree / name, rows(metas, fresh))
                self._build.note(name)
                yield checked_table(fresh, schema)

        name = layout.episodes_path(0)
        write_table_file(self._build.tree / name, metadata(), describe.ROWS_PER_GROUP)
        self._build.note(name)
        self._build.put(layout.STATS, json.dumps(total[0], ensure_ascii=False, allow_nan=False).encode())

    def _by_data_file(self) -> Iterator[list[dict[str, Any]]]:
        """The metadata rows of the source, those of one data file at a time."""
        batch: list[dict[str, Any]] = []
        for path in episode_files(self._source):
            for row in read_table(path).to_pylist():
                if batch and self._data_name(batch[0]) != self._data_name(row):
                    yield batch
                    batch = []
                batch.append(row)
        if batch:
            yield batch

    def _data_name(self, meta: Mapping[str, Any]) -> Path:
        return Path(layout.DATA_PATH.format(chunk_index=meta["data/chunk_index"], file_index=meta["data/file_index"]))

    def _relabelled(self, table: pa.Table, meta: Mapping[str, Any]) -> Any:
        place = {"chunk_index": meta["gamepad/chunk_index"], "file_index": meta["gamepad/file_index"]}
        path = self._source / layout.GAMEPAD_PATH.format(**place)
        content = files.read(path)
        if content is None or hashlib.sha256(content).hexdigest() != meta["gamepad_sha256"]:
            raise CorruptShardError(f"{path}: missing or damaged, expected sha256 {meta['gamepad_sha256']}; restore it")
        return relabel_rows(table, split_events(content, str(path)), self._base, self._spec, str(path))

    def _stats(self, meta: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Stats]:
        found: dict[str, Stats] = {}
        for name in layout.features(self._spec):
            if name in made:
                found[name] = column_stats(made[name])
            else:
                prefix = f"stats/{name}/"
                found[name] = {key[len(prefix) :]: value for key, value in meta.items() if key.startswith(prefix)}
        return found

    def _new_info(self) -> bytes:
        spec, before = self._spec, self._info["extensions"]["game_converter"]
        content = {
            **self._info,
            "features": layout.features(spec) | {layout.CAMERA: self._info["features"][layout.CAMERA]},
            "extensions": {
                **self._info["extensions"],
                "game_converter": {
                    **before,
                    "game_id": spec.game_id,
                    "class_ids": list(spec.class_ids),
                    "profile_name": spec.profile_name,
                    "settings": dict(spec.settings),
                    "action_layout": layout.described(spec.encoder.layout),
                },
            },
        }
        return json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False).encode()


def _with_others(schema: pa.Schema, source: Path) -> pa.Schema:
    """The columns of the episodes file, with those that only this source has, such as an augmented one's."""
    there = [field for path in episode_files(source)[:1] for field in read_schema(path)]
    others = [one for one in there if one.name not in schema.names and not one.name.startswith("stats/")]
    return pa.schema([*schema, *others])


def _with_stats(meta: Mapping[str, Any], stats: Mapping[str, Stats], schema: pa.Schema) -> dict[str, Any]:
    row = {name: value for name, value in meta.items() if not name.startswith("stats/")}
    row |= {f"stats/{name}/{key}": value for name, figures in stats.items() for key, value in figures.items()}
    return {name: row[name] for name in schema.names}
