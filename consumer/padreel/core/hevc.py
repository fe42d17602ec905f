"""HEVC: how its access units are framed, whether one can be muxed, and at which of them decoding can begin.

That is at an IRAP picture. After an IDR picture (types 19 and 20) nothing refers to what was before it. A CRA picture
(21) is where an open GOP begins: the leading pictures that follow it, shown before it, may refer to what was before. A
BLA picture (16 to 18) is one whose past was cut off, so it counts as an IDR. IDR_W_RADL (19) may have leading pictures
too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from padreel.core.hvcc import PPS, SPS, VPS, hvcc_of, kind_of
from padreel.core.nal import (
    ANNEX_B,
    KEY_UNIT,
    OTHER_UNIT,
    START_CODES,
    UnitCheck,
    array_of_nals,
    in_start_codes,
    nal_starts,
)
from padreel.model import Stream

_HEADER_BYTES: Final = 2
_RECORD_BYTES: Final = 23  # an hvcC without its arrays
_IDR_W_RADL: Final = 19
_CRA: Final = 21
_FIRST_IRAP: Final = 16
_FIRST_NON_SLICE: Final = 32
# Slices, parameter sets, delimiter, ends, filler, SEI. The rest is reserved or unspecified.
_ALLOWED: Final = frozenset({*range(10), *range(_FIRST_IRAP, _CRA + 1), *range(VPS, 41)})

_KEYS: Final = {
    **dict.fromkeys(range(_FIRST_IRAP, _CRA), KEY_UNIT),
    _IDR_W_RADL: UnitCheck(True, open_gop=True),
    _CRA: UnitCheck(False, open_gop=True),
}


def form_of_hevc(extradata: bytes) -> int | None:
    """Tell how the access units of an HEVC stream are framed, from its decoder configuration.

    Returns the size in bytes of the length prefixes (1, 2 or 4) for a whole hvcC, `ANNEX_B` for parameter sets with
    start codes of which an hvcC can be made; None for anything else, and where one of VPS, SPS and PPS is missing.
    """
    if extradata[:1] == b"\x01":
        return _hvcc_length_size(extradata)
    if extradata.startswith(START_CODES):
        nals = in_start_codes(extradata)
        return ANNEX_B if all(_is_sound(nal) for nal in nals) and hvcc_of(nals) is not None else None
    return None


def length_prefixed(stream: Stream) -> tuple[Stream, Callable[[bytes], bytes]]:
    """A stream of HEVC as it goes into an mp4, and what makes its access units such: with length prefixes.

    The muxer would leave parameter sets out that units bring along, and see `padreel.core.hvcc`.
    """
    if not stream.extradata.startswith(START_CODES):
        return stream, _same
    hvcc = hvcc_of(in_start_codes(stream.extradata))
    if hvcc is None:
        raise ValueError("extradata without parameter sets that can be used")
    return replace(stream, extradata=hvcc), _with_lengths


def _same(unit: bytes) -> bytes:
    return unit


def _with_lengths(unit: bytes) -> bytes:
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in in_start_codes(unit))


def _is_sound(nal: bytes) -> bool:
    return len(nal) > _HEADER_BYTES and not nal[0] & 0x81 and not nal[1] >> 3 and bool(nal[1] & 7)


def _has_parameter_sets(nals: list[bytes]) -> bool:
    return {VPS, SPS, PPS} <= {kind_of(nal) for nal in nals}


def _hvcc_length_size(hvcc: bytes) -> int | None:
    """Length size of an hvcC record; None where it is cut short or lacks a parameter set."""
    if len(hvcc) < _RECORD_BYTES:
        return None
    length_size = (hvcc[21] & 3) + 1
    position = _RECORD_BYTES
    nals: list[bytes] = []
    for _ in range(hvcc[22]):
        if position + 3 > len(hvcc):
            return None
        kind, count = hvcc[position] & 63, int.from_bytes(hvcc[position + 1 : position + 3], "big")
        found = array_of_nals(hvcc, position + 3, count)
        if found is None or not all(_is_sound(nal) and kind_of(nal) == kind for nal in found[0]):
            return None
        nals += found[0]
        position = found[1]
    return length_size if length_size != 3 and _has_parameter_sets(nals) else None


def check_hevc(unit: bytes, form: int) -> UnitCheck:
    """Check one HEVC access unit of the framing that `form_of_hevc` tells. Never raises, whatever the bytes.

    One whole picture has to be in it, of layer 0.
    """
    starts = nal_starts(unit, form, _HEADER_BYTES)
    if isinstance(starts, str):
        return UnitCheck(False, starts)
    picture = -1  # the type of its slices
    begun = 0
    for start in starts:
        first, second = unit[start], unit[start + 1]
        kind = first >> 1
        if first & 0x81 or second >> 3 or not second & 7 or kind not in _ALLOWED:
            return UnitCheck(False, _bad_header(first, second, start))
        if kind < _FIRST_NON_SLICE:
            if picture not in (-1, kind) and max(picture, kind) >= _FIRST_IRAP:
                return UnitCheck(False, f"NAL type {kind} at byte {start}, expected {picture} as before in the unit")
            picture = kind
            begun += unit[start + 2 : start + 3] >= b"\x80"  # first_slice_segment_in_pic_flag
    if picture < 0:
        return UnitCheck(False, "no slice in the unit, expected a NAL of type 0-9 or 16-21")
    if begun != 1:
        return UnitCheck(False, f"{begun} pictures begin in the unit, expected 1")
    return _KEYS.get(picture, OTHER_UNIT)


def _bad_header(first: int, second: int, start: int) -> str:
    if first & 0x80:
        return f"the forbidden bit of the NAL header at byte {start} is set"
    if first & 1 or second >> 3:
        return f"layer {(first & 1) << 5 | second >> 3} in the NAL header at byte {start}, expected 0"
    if not second & 7:
        return f"no temporal id in the NAL header at byte {start}, expected 1 to 7"
    return f"NAL type {first >> 1} at byte {start}, expected 0-9, 16-21 or 32-40"
