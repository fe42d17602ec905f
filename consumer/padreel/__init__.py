"""padreel: live gamepad and video streams from Kafka into LeRobot datasets.

What this package lists in `__all__` is its public surface; its modules are not. Each name is loaded when it is first
used, so that `import padreel` costs nothing; none of them loads torch or lerobot, except that
`ConversionResult.dataset` opens the dataset with lerobot when something is asked of it.

    import padreel

    result = padreel.convert_sessions(
        session_root="recordings",
        game_definition=padreel.load_game_definition("game.yaml"),
        action_mapping=padreel.load_action_mapping_profile("mapping.yaml"),
        output_root="dataset",
        repo_id="me/game",
        task="Win the match",
        max_pre_action_seconds=1.0,
    )
    print(result.converted_sessions, result.skipped_sessions)

Everything that padreel raises on purpose is a `PadreelError`; what is wrong in a recording is an `InputError`, which is
a ValueError too.
"""

from typing import TYPE_CHECKING

from padreel.version import __version__

__all__ = [
    "ActionBinding",
    "ActionDefinition",
    "ActionLayoutEntry",
    "ActionMappingProfile",
    "ConversionMetadata",
    "ConversionResult",
    "ConvertedDataset",
    "DatasetError",
    "GameClass",
    "GameDefinition",
    "GamepadSnapshot",
    "InputError",
    "PadreelError",
    "ProfileError",
    "SessionValidationResult",
    "SettingsError",
    "VideoReader",
    "__version__",
    "apply_converter_metadata",
    "build_action_layout",
    "build_features",
    "collect_actions_by_class",
    "collect_session_dirs",
    "convert_sessions",
    "encode_action_vector",
    "load_action_mapping_profile",
    "load_game_definition",
    "open_video_reader",
    "read_actions_bin",
    "read_sync_csv",
    "trim_idle_frame_indices",
    "validate_session_dir",
]

if TYPE_CHECKING:
    from padreel.convert import ConversionResult, ConvertedDataset, convert_sessions
    from padreel.core.action import (
        ActionBinding,
        ActionDefinition,
        ActionLayoutEntry,
        ActionMappingProfile,
        GameClass,
        GameDefinition,
        build_action_layout,
        collect_actions_by_class,
        encode_action_vector,
    )
    from padreel.core.pad import GamepadSnapshot
    from padreel.core.trim import trim_idle_frame_indices
    from padreel.dataset.metadata import ConversionMetadata, apply_converter_metadata, build_features
    from padreel.errors import DatasetError, InputError, PadreelError, ProfileError, SettingsError
    from padreel.profiles import load_action_mapping_profile, load_game_definition
    from padreel.recordings import (
        SessionValidationResult,
        collect_session_dirs,
        read_actions_bin,
        read_sync_csv,
        validate_session_dir,
    )
    from padreel.video import VideoReader, open_video_reader
else:
    _MODULES = {
        "convert": ("ConversionResult", "ConvertedDataset", "convert_sessions"),
        "core.action": (
            "ActionBinding",
            "ActionDefinition",
            "ActionLayoutEntry",
            "ActionMappingProfile",
            "GameClass",
            "GameDefinition",
            "build_action_layout",
            "collect_actions_by_class",
            "encode_action_vector",
        ),
        "core.pad": ("GamepadSnapshot",),
        "core.trim": ("trim_idle_frame_indices",),
        "dataset.metadata": ("ConversionMetadata", "apply_converter_metadata", "build_features"),
        "errors": ("DatasetError", "InputError", "PadreelError", "ProfileError", "SettingsError"),
        "profiles": ("load_action_mapping_profile", "load_game_definition"),
        "recordings": (
            "SessionValidationResult",
            "collect_session_dirs",
            "read_actions_bin",
            "read_sync_csv",
            "validate_session_dir",
        ),
        "video": ("VideoReader", "open_video_reader"),
    }
    _HOMES = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
