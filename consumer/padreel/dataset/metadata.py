"""The parts of info.json that users of the library make themselves, for datasets that they write with LeRobot."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from padreel.core.action import ActionLayoutEntry
from padreel.dataset.layout import ACTION, CAMERA, described


@dataclass(frozen=True, slots=True)
class ConversionMetadata:
    """What a dataset's info.json says of how it was made. `skipped_sessions` has each one's reason."""

    game_id: str
    class_ids: Sequence[str]
    profile_name: str
    task: str
    strict: bool
    max_pre_action_seconds: float | None
    action_layout: Sequence[ActionLayoutEntry]
    converted_sessions: Sequence[str] = ()
    skipped_sessions: Mapping[str, str] = field(default_factory=dict)


def build_features(layout: Sequence[ActionLayoutEntry], frame_shape: tuple[int, int, int]) -> dict[str, dict[str, Any]]:
    """The features of the camera and the action as `LeRobotDataset.create` takes them.

    `frame_shape` is (height, width, 3) in pixels. The slots of a vector2 are named `<id>.x` and `<id>.y`.
    """
    names = [
        name
        for entry in layout
        for name in ([f"{entry.action_id}.x", f"{entry.action_id}.y"] if entry.size == 2 else [entry.action_id])
    ]
    return {
        CAMERA: {"dtype": "video", "shape": tuple(frame_shape), "names": ["height", "width", "channels"]},
        ACTION: {"dtype": "float32", "shape": (len(names),), "names": names},
    }


def apply_converter_metadata(info: MutableMapping[str, Any], metadata: ConversionMetadata) -> None:
    """Put `metadata` into the content of an info.json, in the place and form in which padreel has it."""
    skipped = metadata.skipped_sessions
    info.setdefault("extensions", {})["game_converter"] = {
        "game_id": metadata.game_id,
        "class_ids": list(metadata.class_ids),
        "profile_name": metadata.profile_name,
        "settings": {
            "task": metadata.task,
            "strict": metadata.strict,
            "max_pre_action_seconds": metadata.max_pre_action_seconds,
        },
        "action_layout": described(metadata.action_layout),
        "converted_session_count": len(metadata.converted_sessions),
        "converted_sessions": list(metadata.converted_sessions),
        "skipped_session_count": len(skipped),
        "skipped_sessions": [
            {"session": session, "reason": "skipped", "detail": detail} for session, detail in skipped.items()
        ],
    }
