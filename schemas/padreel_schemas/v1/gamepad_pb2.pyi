from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GamepadState(_message.Message):
    __slots__ = ("monotonic_ns", "axes", "pressed_buttons", "pressed_keys", "sequence", "kind")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EVENT: _ClassVar[GamepadState.Kind]
        HEARTBEAT: _ClassVar[GamepadState.Kind]
        END: _ClassVar[GamepadState.Kind]
    EVENT: GamepadState.Kind
    HEARTBEAT: GamepadState.Kind
    END: GamepadState.Kind
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    PRESSED_BUTTONS_FIELD_NUMBER: _ClassVar[int]
    PRESSED_KEYS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    monotonic_ns: int
    axes: _containers.RepeatedScalarFieldContainer[float]
    pressed_buttons: _containers.RepeatedScalarFieldContainer[int]
    pressed_keys: _containers.RepeatedScalarFieldContainer[int]
    sequence: int
    kind: GamepadState.Kind
    def __init__(self, monotonic_ns: _Optional[int] = ..., axes: _Optional[_Iterable[float]] = ..., pressed_buttons: _Optional[_Iterable[int]] = ..., pressed_keys: _Optional[_Iterable[int]] = ..., sequence: _Optional[int] = ..., kind: _Optional[_Union[GamepadState.Kind, str]] = ...) -> None: ...
