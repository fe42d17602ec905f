"""Reading the NAL units of an H.264 access unit, without decoding it.

The muxer takes whatever it is given, so damage has to be found before: lengths or start codes that do not add up,
header bits that no encoder sets, types that cannot stand in an access unit, a unit without a slice. Damage inside a
slice is not seen here; that needs a checksum of the transport.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ANNEX_B: Final = 0
"""The `length_size` of units that have start codes in place of length prefixes."""

_START_CODE: Final = b"\x00\x00\x01"
_SLICE: Final = 1
_IDR_SLICE: Final = 5
_SPS: Final = 7
_PPS: Final = 8
_MAX_SPS: Final = 31  # as many as an avcC can hold, and the muxer makes one
_MAX_PPS: Final = 255
_MIN_SPS_BYTES: Final = 4  # header, profile, constraints, level
# Slices, SEI, parameter sets, delimiter, ends, filler. The rest is data partitions, extensions and reserved.
_ALLOWED: Final = frozenset({_SLICE, *range(_IDR_SLICE, 13)})
_ALLOWED_WORDS: Final = "expected 1 or 5-12"


@dataclass(frozen=True, slots=True)
class UnitCheck:
    """What an access unit is: `fault` says in words why it cannot be muxed, else `idr` tells a sync sample."""

    idr: bool
    fault: str | None = None


_IDR_UNIT: Final = UnitCheck(True)
_OTHER_UNIT: Final = UnitCheck(False)


def unit_form(extradata: bytes) -> int | None:
    """Tell how the access units of an H.264 stream are framed, from its decoder configuration.

    Returns the size in bytes of the length prefixes (1, 2 or 4) for a whole avcC, `ANNEX_B` for parameter sets with
    start codes (an SPS and a PPS at least), None for anything else.
    """
    if extradata[:1] == b"\x01":
        return _avcc_length_size(extradata)
    if extradata.startswith((_START_CODE, b"\x00" + _START_CODE)) and _has_parameter_sets(extradata):
        return ANNEX_B
    return None


def _has_parameter_sets(extradata: bytes) -> bool:
    """Whether the muxer can make an avcC of it; it would write a file that nothing opens, and not say so."""
    units = extradata.split(_START_CODE)[1:]
    kinds = [unit[0] & 31 for unit in units if unit]
    sets = [unit.rstrip(b"\x00") for unit in units if unit and unit[0] & 31 == _SPS]
    return len(kinds) <= _MAX_PPS and 1 <= len(sets) <= _MAX_SPS and len(sets[0]) >= _MIN_SPS_BYTES and _PPS in kinds


def _avcc_length_size(avcc: bytes) -> int | None:
    """Length size of an avcC record; None where it is cut short or holds no parameter sets."""
    if len(avcc) < 7:
        return None
    length_size = (avcc[4] & 3) + 1
    if length_size == 3:
        return None
    position = 5
    for count_mask in (0x1F, 0xFF):  # sequence parameter sets, then picture parameter sets
        if position >= len(avcc):
            return None
        count = avcc[position] & count_mask
        if count == 0:
            return None
        position += 1
        for _ in range(count):
            position += 2 + int.from_bytes(avcc[position : position + 2], "big")
            if position > len(avcc):
                return None
    return length_size


def check_h264(unit: bytes, length_size: int | None) -> UnitCheck:
    """Check one H.264 access unit whose NAL units have length prefixes of `length_size` bytes, or start codes.

    With None the framing is not known: the unit passes if it is sound with 4-byte prefixes or with start codes.
    Never raises, whatever the bytes.
    """
    if length_size is None:
        check = _check_prefixed(unit, 4)
        if check.fault is None or not unit.startswith((_START_CODE, b"\x00" + _START_CODE)):
            return check
        return _check_annex_b(unit)
    if length_size == ANNEX_B:
        return _check_annex_b(unit)
    return _check_prefixed(unit, length_size)


def _check_prefixed(unit: bytes, length_size: int) -> UnitCheck:
    size = len(unit)
    position = 0
    slices = idr = False
    while position < size:
        start = position + length_size
        length = int.from_bytes(unit[position:start], "big")
        if length == 0 or start + length > size:
            return _bad_length(unit, position, length_size)
        header = unit[start]
        kind = header & 31
        if header & 0x80 or kind not in _ALLOWED:
            return _bad_header(header, start)
        if kind <= _IDR_SLICE:
            slices = True
            idr = idr or kind == _IDR_SLICE
        position = start + length
    return _verdict(slices, idr)


def _check_annex_b(unit: bytes) -> UnitCheck:
    size = len(unit)
    code = unit.find(_START_CODE)
    if code < 0 or unit[:code].strip(b"\x00"):
        return UnitCheck(False, "no start code at byte 0")
    slices = idr = False
    while code >= 0:
        position = code + 3
        if position == size:
            return UnitCheck(False, f"nothing follows the start code at byte {code}")
        header = unit[position]
        kind = header & 31
        if header & 0x80 or kind not in _ALLOWED:
            return _bad_header(header, position)
        if kind <= _IDR_SLICE:
            slices = True
            idr = idr or kind == _IDR_SLICE
        code = unit.find(_START_CODE, position)
    return _verdict(slices, idr)


def _bad_length(unit: bytes, position: int, length_size: int) -> UnitCheck:
    left = len(unit) - position - length_size
    if left <= 0:
        return UnitCheck(False, f"the unit of {len(unit)} bytes ends in the length prefix at byte {position}")
    length = int.from_bytes(unit[position : position + length_size], "big")
    return UnitCheck(False, f"the length prefix at byte {position} says {length}, expected 1 to {left}")


def _bad_header(header: int, position: int) -> UnitCheck:
    if header & 0x80:
        return UnitCheck(False, f"the forbidden bit of the NAL header at byte {position} is set")
    return UnitCheck(False, f"NAL type {header & 31} at byte {position}, {_ALLOWED_WORDS}")


def _verdict(slices: bool, idr: bool) -> UnitCheck:
    if not slices:
        return UnitCheck(False, "no slice in the unit, expected a NAL of type 1 or 5")
    return _IDR_UNIT if idr else _OTHER_UNIT
