"""`padreel convert` and `padreel.convert_sessions`: recorded session folders into one dataset, without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from padreel.conversion import Conversion, Outcome, check, key_of, open_output, refuse_filled, schema_of
from padreel.core.action import ActionMappingProfile, GameDefinition
from padreel.dataset.committed import Committed
from padreel.dataset.runs import record_run
from padreel.dataset.spec import log_gate, spec_of
from padreel.errors import InputError
from padreel.options import load
from padreel.profiles import load_action_mapping_profile, load_game_definition
from padreel.recordings import collect_session_dirs, validate_session_dir
from padreel.settings import ConversionSettings, ConvertSettings
from padreel_schemas.recording import Recording, RecordingError


class ConvertedDataset:
    """The dataset that was written, as lerobot's LeRobotDataset, which is imported and opened at the first use.

    `root` and `repo_id` answer at once. Anything else raises ImportError where lerobot is not installed.
    """

    def __init__(self, root: Path, repo_id: str) -> None:
        self.root, self.repo_id = root, repo_id
        self._opened: Any = None

    def _dataset(self) -> Any:
        if self._opened is None:
            try:
                from lerobot.datasets.lerobot_dataset import LeRobotDataset
            except ImportError as error:
                raise ImportError(
                    f"{self.root} is complete; to open it here, lerobot is needed: pip install 'padreel[lerobot]'"
                ) from error
            self._opened = LeRobotDataset(self.repo_id, root=self.root)
        return self._opened

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what copies and pickles asks for is not lerobot's
            raise AttributeError(name)
        return getattr(self._dataset(), name)

    def __len__(self) -> int:
        return len(self._dataset())

    def __getitem__(self, index: int) -> Any:
        return self._dataset()[index]

    def __repr__(self) -> str:
        return f"ConvertedDataset(root={str(self.root)!r}, repo_id={self.repo_id!r})"


@dataclass(frozen=True, slots=True)
class ConversionResult:
    """What became of the sessions, by name in the order of the folders; of those that were skipped, why.

    A session of which only a part could be used is in both. The dataset, its figures and `run`, by which the folder
    `runs` of the dataset names this conversion, take no part in equality.
    """

    converted_sessions: tuple[str, ...] = ()
    skipped_sessions: Mapping[str, str] = field(default_factory=dict)
    dataset: ConvertedDataset | None = field(default=None, compare=False, repr=False)
    episodes: int = field(default=0, compare=False)
    frames: int = field(default=0, compare=False)
    run: str = field(default="", compare=False)


def convert_sessions(
    *,
    session_root: Path | str,
    game_definition: GameDefinition,
    action_mapping: ActionMappingProfile,
    output_root: Path | str,
    repo_id: str,
    task: str,
    max_pre_action_seconds: float | None = None,
    strict: bool = False,
    max_episode_seconds: float = 900.0,
    columns: Literal["full", "minimal"] = "full",
    idle_deadzone: float = 0.1,
    min_quality_score: float | None = None,
    on_episode: Callable[[str, int], None] | None = None,
) -> ConversionResult:
    """Convert every session below `session_root` into one LeRobot dataset at `output_root`.

    The video is stream-copied. Every option means what the flag of `padreel convert` with its name means; `on_episode`
    is called with a session's name and the episode's index as soon as that episode can be loaded.

    A session that cannot be converted is skipped and listed with its reason; with `strict` the first one raises
    InputError. InputError is also raised when none can be converted, RootMismatchError when the output root is not
    empty, ProfileError where game and action mapping do not belong together, SettingsError for an option out of its
    range.
    """
    settings = load(
        ConversionSettings,
        {
            "session_root": session_root,
            "output_root": output_root,
            "repo_id": repo_id,
            "task": task,
            "max_pre_action_seconds": max_pre_action_seconds,
            "strict": strict,
            "max_episode_seconds": max_episode_seconds,
            "columns": columns,
            "idle_deadzone": idle_deadzone,
            "min_quality_score": min_quality_score,
            "button_base": action_mapping.button_base,
        },
    )

    def tell(committed: Committed) -> None:
        if on_episode is not None and committed.key is not None and committed.episode_index is not None:
            on_episode(committed.key.rpartition("@")[0], committed.episode_index)

    return run(settings, game_definition, action_mapping, tell)


def convert(
    settings: ConvertSettings, on_episode: Callable[[Committed], None] = lambda committed: None
) -> ConversionResult:
    """What the command does. Raises what `convert_sessions` does."""
    game = load_game_definition(settings.game_definition)
    profile = load_action_mapping_profile(settings.action_mapping, button_base=settings.button_base)
    return run(settings, game, profile, on_episode, str(settings.action_mapping))


def run(
    settings: ConversionSettings,
    game: GameDefinition,
    profile: ActionMappingProfile,
    on_episode: Callable[[Committed], None],
    source: str = "action mapping",
) -> ConversionResult:
    """Convert the sessions of `settings`; `source` names the profile in messages."""
    log_gate(settings)
    outcome = Outcome()
    valid = list(_valid(settings, outcome))
    if not valid:
        raise InputError(f"--session-root: {settings.session_root}: no session can be converted: {_reasons(outcome)}")
    schema = schema_of(valid[0][0])
    spec = spec_of(settings, schema, game, profile, source)
    refuse_filled(settings.output_root)
    run_id = uuid4().hex
    with closing(open_output(settings.output_root, spec, run_id)) as shard:
        conversion = Conversion(settings, spec, shard, outcome, on_episode)
        for recording, key in valid:
            if schema_of(recording) == schema:
                _feed(conversion, recording, key)
            else:
                detail = f"{recording.path}: {schema_of(recording)}; the first session has {schema}"
                outcome.skip(recording.name, "schema", detail, strict=settings.strict)
        shard.write_session_lists(outcome.converted, outcome.skipped)
        totals = shard.totals
        if not totals.episodes:
            raise InputError(f"--session-root: {settings.session_root}: no frame is left: {_reasons(outcome)}")
        told = settings.model_dump(mode="json")
        record_run(settings.output_root, run_id, "convert", told, shard.claim)
    return ConversionResult(
        tuple(outcome.converted),
        _by_session(outcome),
        ConvertedDataset(settings.output_root, settings.repo_id),
        totals.episodes,
        totals.rows,
        run_id,
    )


def _feed(conversion: Conversion, recording: Recording, key: bytes) -> None:
    try:
        conversion.feed(recording, key)
    except RecordingError as error:  # the folder changed while it was read
        raise InputError(f"session {recording.name}: {error}") from error


def _valid(settings: ConversionSettings, outcome: Outcome) -> Iterator[tuple[Recording, bytes]]:
    """The sessions that can be read, with their keys."""
    for path in collect_session_dirs(settings.session_root):
        recording = Recording(path)
        missing = validate_session_dir(path).missing_files
        if missing:
            detail = f"missing required files: {', '.join(missing)}"
            outcome.skip(recording.name, "invalid", detail, strict=settings.strict)
            continue
        try:
            key = key_of(recording)
            check(recording)
        except RecordingError as error:
            reason, detail = "invalid", str(error)
        except OSError as error:
            reason, detail = "invalid", f"{path}: cannot be read: {error.strerror or error}"
        except ValueError as error:
            reason, detail = "name", f"{path}: {error}"
        else:
            yield recording, key
            continue
        outcome.skip(recording.name, reason, detail, strict=settings.strict)


def _reasons(outcome: Outcome) -> str:
    return "; ".join(f"{one.session}: {one.detail}" for one in outcome.skipped)


def _by_session(outcome: Outcome) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in outcome.skipped:
        found[one.session] = f"{found[one.session]}; {one.detail}" if one.session in found else one.detail
    return found
