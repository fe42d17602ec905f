"""Frozen dataclasses to JSON and back, strictly, driven by their type hints.

Every field must be there and none other may be; what does not fit raises `CodecError` naming the path to it. Only a
field that is marked `LATER` may be absent: it has its default then. Bytes become base64 text, enums their values,
tuples lists. `Any` stands for JSON that is passed through as it is.
"""

from __future__ import annotations

import base64
import binascii
import functools
import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Final

Json = Any
_Read = Callable[[Json, str], Any]
_Write = Callable[[Any], Json]
LATER: Final = {"later": True}  # the metadata of a field that earlier versions did not write


class CodecError(ValueError):
    """JSON that is not what the type says; the message names the field, what was found and expected."""


def encode(value: object) -> Json:
    """The JSON form of a dataclass value."""
    kind: Any = type(value)
    return _codec(kind)[0](value)


def decode(kind: type[Any], data: Json, where: str = "") -> Any:
    """The `kind` value that `data` stands for; `where` prefixes the path in errors."""
    hashable: Any = kind
    return _codec(hashable)[1](data, where)


def _wrong(where: str, found: Json, expected: str) -> CodecError:
    shown = repr(found)
    return CodecError(f"{where or 'value'}: found {shown[:60]}{'...' if len(shown) > 60 else ''}, expected {expected}")


def _same(value: Any) -> Json:
    return value


def _scalar(kind: type[Any], expected: str) -> _Read:
    def read(data: Json, where: str) -> Any:
        if type(data) is not kind:
            raise _wrong(where, data, expected)
        return data

    return read


def _read_float(data: Json, where: str) -> float:
    if type(data) not in (int, float):
        raise _wrong(where, data, "a number")
    return float(data)


def _write_bytes(value: bytes) -> Json:
    return base64.b64encode(value).decode("ascii")


def _read_bytes(data: Json, where: str) -> bytes:
    if not isinstance(data, str):
        raise _wrong(where, data, "base64 text")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(where, data, "base64 text") from None


def _enum(kind: type[StrEnum]) -> tuple[_Write, _Read]:
    def read(data: Json, where: str) -> StrEnum:
        try:
            return kind(data)
        except ValueError:
            raise _wrong(where, data, "one of " + ", ".join(kind)) from None

    return (lambda value: value.value), read


def _optional(inner: tuple[_Write, _Read]) -> tuple[_Write, _Read]:
    write_inner, read_inner = inner
    return (
        lambda value: None if value is None else write_inner(value),
        lambda data, where: None if data is None else read_inner(data, where),
    )


def _tuple(inner: tuple[_Write, _Read]) -> tuple[_Write, _Read]:
    write_inner, read_inner = inner

    def read(data: Json, where: str) -> tuple[Any, ...]:
        if not isinstance(data, list):
            raise _wrong(where, data, "a list")
        return tuple(read_inner(one, f"{where}[{i}]") for i, one in enumerate(data))

    return (lambda value: [write_inner(one) for one in value]), read


def _dict(key: tuple[_Write, _Read], inner: tuple[_Write, _Read]) -> tuple[_Write, _Read]:
    write_key, read_key = key
    write_inner, read_inner = inner

    def read(data: Json, where: str) -> dict[Any, Any]:
        if not isinstance(data, dict):
            raise _wrong(where, data, "an object")
        return {read_key(k, where): read_inner(one, f"{where}[{k!r}]") for k, one in data.items()}

    return (lambda value: {write_key(k): write_inner(one) for k, one in value.items()}), read


def _dataclass(kind: type[Any]) -> tuple[_Write, _Read]:
    hints = typing.get_type_hints(kind)
    members = [(one.name, *_codec(hints[one.name])) for one in fields(kind)]
    names = {name for name, _, _ in members}
    may_be_absent = {one.name for one in fields(kind) if one.metadata == LATER}

    def write(value: Any) -> Json:
        return {name: write_one(getattr(value, name)) for name, write_one, _ in members}

    def read(data: Json, where: str) -> Any:
        if not isinstance(data, dict):
            raise _wrong(where, data, f"an object ({kind.__name__})")
        prefix = f"{where}." if where else ""
        for name in data:
            if name not in names:
                raise CodecError(f"{prefix}{name}: unknown field")
        for name in names - may_be_absent:
            if name not in data:
                raise CodecError(f"{prefix}{name}: missing")
        return kind(**{name: read_one(data[name], f"{prefix}{name}") for name, _, read_one in members if name in data})

    return write, read


@functools.cache
def _codec(kind: Any) -> tuple[_Write, _Read]:
    if kind is Any:
        return _same, lambda data, where: data
    if kind is bool:
        return _same, _scalar(bool, "true or false")
    if kind is int:
        return _same, _scalar(int, "an integer")
    if kind is str:
        return _same, _scalar(str, "text")
    if kind is float:
        return _same, _read_float
    if kind is bytes:
        return _write_bytes, _read_bytes
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _enum(kind)
    if is_dataclass(kind):
        return _dataclass(typing.cast(type[Any], kind))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (one for one in arguments if one is not type(None))
        return _optional(_codec(inner))
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return _tuple(_codec(arguments[0]))
    if origin is dict:
        return _dict(_codec(arguments[0]), _codec(arguments[1]))
    raise TypeError(f"no JSON form for {kind}")
