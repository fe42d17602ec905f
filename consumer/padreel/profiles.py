"""Reads the two YAML files that say what a game's actions are and how a pad performs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from padreel.core.action import ActionMappingProfile, GameDefinition
from padreel.core.profile import parse_action_mapping, parse_game_definition
from padreel.errors import ProfileError


def load_game_definition(path: Path | str) -> GameDefinition:
    """Read a game definition. Raises ProfileError that names the file and what is wrong in it."""
    return parse_game_definition(_load(Path(path)), str(path))


def load_action_mapping_profile(path: Path | str, *, button_base: int = 0) -> ActionMappingProfile:
    """Read an action mapping. Raises ProfileError that names the file, the action and the control.

    `button_base` is 1 for recordings or profiles made for a converter whose table of buttons starts at 1.
    """
    return parse_action_mapping(_load(Path(path)), str(path), button_base=button_base)


_TYPES: Final = ("int", "float", "bool", "null", "timestamp")


class _TextLoader(Reader, Scanner, Parser, Composer, SafeConstructor, BaseResolver):
    """Loads every plain scalar as text and refuses a key that stands twice.

    Recorders write ids without quotes, and YAML would make a number of the game `2048` and a truth value of the action
    `on`; and of two entries for one action it would silently drop the first.
    """

    # Scalars that carry the tag of a type are text too: the types' own readers raise whatever comes up.
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        **SafeConstructor.yaml_constructors,
        **{f"tag:yaml.org,2002:{name}": SafeConstructor.construct_yaml_str for name in _TYPES},
    }

    def __init__(self, stream: str) -> None:
        Reader.__init__(self, stream)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        BaseResolver.__init__(self)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        # A scalar that is tagged as a mapping comes here too; the base class refuses it.
        pairs = node.value if node.id == "mapping" else []
        for key, _ in pairs:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _load(path: Path) -> object:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: byte {error.start} is not UTF-8, expected a YAML file") from error
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return _TextLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ProfileError(f"{path}: {line}no usable YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two: a \U escape that is no character
        raise ProfileError(f"{path}: no usable YAML: {error}") from error
    except RecursionError as error:
        raise ProfileError(f"{path}: no usable YAML: nested too deeply") from error
