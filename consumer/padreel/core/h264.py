"""H.264: how its access units are framed, whether one can be muxed, and which of them are IDR pictures."""

from __future__ import annotations

from typing import Final

from padreel.core.nal import (
    ANNEX_B,
    KEY_UNIT,
    OTHER_UNIT,
    START_CODE,
    START_CODES,
    UnitCheck,
    array_of_nals,
    in_start_codes,
    nal_starts,
)

_SLICE: Final = 1
_IDR_SLICE: Final = 5
_SPS: Final = 7
_PPS: Final = 8
_MAX_SPS: Final = 31  # as many as an avcC can hold, and the muxer makes one
_MAX_PPS: Final = 255
_MIN_SPS_BYTES: Final = 4  # header, profile, constraints, level
# Slices, SEI, parameter sets, delimiter, ends, filler. The rest is data partitions, extensions and reserved.
_ALLOWED: Final = frozenset({_SLICE, *range(_IDR_SLICE, 13)})


def form_of_h264(extradata: bytes) -> int | None:
    """Tell how the access units of an H.264 stream are framed, from its decoder configuration.

    Returns the size in bytes of the length prefixes (1, 2 or 4) for a whole avcC, `ANNEX_B` for parameter sets with
    start codes (an SPS and a PPS at least), None for anything else.
    """
    if extradata[:1] == b"\x01":
        return _avcc_length_size(extradata)
    if extradata.startswith(START_CODES) and _has_parameter_sets(extradata):
        return ANNEX_B
    return None


def _has_parameter_sets(extradata: bytes) -> bool:
    """Whether the muxer can make an avcC of it; it would write a file that nothing opens, and not say so."""
    units = [unit for unit in extradata.split(START_CODE)[1:] if unit]
    kinds = [unit[0] & 31 for unit in units]
    sets = [unit for unit in in_start_codes(extradata) if unit[0] & 31 == _SPS]
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
        found = array_of_nals(avcc, position + 1, count)
        if count == 0 or found is None:
            return None
        position = found[1]
    return length_size


def check_h264(unit: bytes, form: int) -> UnitCheck:
    """Check one H.264 access unit of the framing that `form_of_h264` tells. Never raises, whatever the bytes."""
    starts = nal_starts(unit, form, 1)
    if isinstance(starts, str):
        return UnitCheck(False, starts)
    slices = idr = False
    for start in starts:
        header = unit[start]
        kind = header & 31
        if header & 0x80:
            return UnitCheck(False, f"the forbidden bit of the NAL header at byte {start} is set")
        if kind not in _ALLOWED:
            return UnitCheck(False, f"NAL type {kind} at byte {start}, expected 1 or 5-12")
        if kind == _IDR_SLICE and slices and not idr:  # the other way round is a second field
            return UnitCheck(False, f"an IDR slice at byte {start} after slices of another picture")
        if kind <= _IDR_SLICE:
            slices = True
            idr = idr or kind == _IDR_SLICE
    if not slices:
        return UnitCheck(False, "no slice in the unit, expected a NAL of type 1 or 5")
    return KEY_UNIT if idr else OTHER_UNIT
