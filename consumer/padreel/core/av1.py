"""AV1: whether a temporal unit can be muxed, and at which of them decoding can begin.

A unit is a row of OBUs, each with its size, and exactly one frame is shown in it; so the units of a stream are in
display order. Decoding can begin at one with a sequence header whose first frame is a key frame that is shown at once.
A key frame that is shown later is none: what comes between may refer to what was before.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from padreel.core.nal import KEY_UNIT, OTHER_UNIT, UnitCheck

OBUS: Final = -1
"""The framing of AV1: OBUs with sizes. There is no other."""

_SEQUENCE: Final = 1
_DELIMITER: Final = 2
_FRAME_HEADER: Final = 3
_METADATA: Final = 5
_FRAME: Final = 6
_PADDING: Final = 15
_ALLOWED: Final = frozenset({*range(_SEQUENCE, 8), _PADDING})
_IN_EXTRADATA: Final = frozenset({_SEQUENCE, _METADATA, _PADDING})

_NO_ONE_SETS, _HAS_LAYERS, _HAS_SIZE = 0x81, 0x04, 0x02  # of an OBU's header
_SPATIAL_LAYER: Final = 0x18  # of the byte after it

_RECORD: Final = b"\x81"  # marker and version of an av1C
_RECORD_BYTES: Final = 4  # before its OBUs
_MAX_SIZE_BYTES: Final = 8  # of a leb128
_MIN_SEQUENCE_BYTES: Final = 4

# The first bits of a frame header; a sequence header that says "reduced" would leave them out.
_SHOW_EXISTING: Final = 0x80
_FRAME_TYPE: Final = 0x60  # 0 is a key frame
_SHOWN: Final = 0x10
_STILL: Final = 0x18  # of a sequence header: still_picture, reduced_still_picture_header


class Obu(NamedTuple):
    """One OBU: its type, where it begins, and where its payload begins and ends."""

    kind: int
    at: int
    start: int
    end: int


def read_obus(data: bytes) -> list[Obu] | str:
    """The OBUs that `data` consists of, or in words what is wrong with one."""
    found: list[Obu] = []
    at, size = 0, len(data)
    while at < size:
        header = data[at]
        start = at + 1
        if header & _NO_ONE_SETS or not header & _HAS_SIZE:
            return _bad_header(header, at)
        if header & _HAS_LAYERS:
            if start < size and data[start] & _SPATIAL_LAYER:
                return f"the OBU at byte {at} is of another spatial layer than 0"
            start += 1
        length = shift = 0
        more = True
        while more:
            if start >= size or shift == 7 * _MAX_SIZE_BYTES:
                return f"the OBU at byte {at} has no whole size"
            length |= (data[start] & 0x7F) << shift
            more = data[start] > 0x7F
            shift += 7
            start += 1
        if start + length > size:
            return f"the OBU at byte {at} has size {length}, expected at most {size - start}"
        found.append(Obu(header >> 3, at, start, start + length))
        at = start + length
    return found


def _bad_header(header: int, at: int) -> str:
    if header & _NO_ONE_SETS:
        return f"a forbidden or reserved bit of the OBU header at byte {at} is set"
    return f"the OBU at byte {at} does not say its size"


def form_of_av1(extradata: bytes) -> int | None:
    """`OBUS` where the decoder configuration of an AV1 stream can be used, else None.

    It is an av1C, or OBUs alone; one sequence header must be in it, and not that of a still picture.
    """
    if extradata[:1] >= b"\x80":
        if extradata[:1] != _RECORD or len(extradata) < _RECORD_BYTES:
            return None
        extradata = extradata[_RECORD_BYTES:]
    obus = read_obus(extradata)
    if isinstance(obus, str) or any(obu.kind not in _IN_EXTRADATA for obu in obus):
        return None
    headers = [obu for obu in obus if obu.kind == _SEQUENCE]
    return OBUS if len(headers) == 1 and _sequence_fault(extradata, headers[0]) is None else None


def _sequence_fault(data: bytes, obu: Obu) -> str | None:
    if obu.end - obu.start < _MIN_SEQUENCE_BYTES:
        return f"the sequence header at byte {obu.at} has {obu.end - obu.start} bytes, expected {_MIN_SEQUENCE_BYTES}"
    if data[obu.start] & _STILL:
        return f"the sequence header at byte {obu.at} is of a still picture, expected one of a video"
    return None


def check_av1(unit: bytes, form: int = OBUS) -> UnitCheck:
    """Check one AV1 temporal unit. Never raises, whatever the bytes."""
    obus = read_obus(unit)
    if isinstance(obus, str):
        return UnitCheck(False, obus)
    shown = frames = 0
    has_sequence = key = False
    for kind, at, start, end in obus:
        if kind not in _ALLOWED:
            return UnitCheck(False, f"OBU type {kind} at byte {at}, expected 1-7 or 15")
        if kind == _DELIMITER and at:
            return UnitCheck(False, f"a temporal delimiter at byte {at}: the unit is more than one")
        if kind == _SEQUENCE:
            if (fault := _sequence_fault(unit, Obu(kind, at, start, end))) is not None:
                return UnitCheck(False, fault)
            has_sequence = True
        elif kind in (_FRAME, _FRAME_HEADER):
            first = unit[start] if start < end else _SHOW_EXISTING
            if start == end or (kind == _FRAME and first & _SHOW_EXISTING):
                return UnitCheck(False, f"the OBU at byte {at} holds no frame")
            shown += bool(first & (_SHOW_EXISTING | _SHOWN))
            if not frames:
                key = has_sequence and first & (_SHOW_EXISTING | _FRAME_TYPE | _SHOWN) == _SHOWN
            frames += 1
    if shown != 1:
        return UnitCheck(False, f"{shown} frames are shown by the unit, expected 1")
    return KEY_UNIT if key else OTHER_UNIT
