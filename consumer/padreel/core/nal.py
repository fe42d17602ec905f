"""NAL units: what the access units of H.264 and HEVC are made of, in either framing.

The muxer takes whatever it is given, so damage has to be found before: lengths or start codes that do not add up,
header bits that no encoder sets, types that cannot stand in an access unit, a unit without a slice. Damage inside a
slice is not seen here; that needs a checksum of the transport.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ANNEX_B: Final = 0
"""The framing of units that have start codes in place of length prefixes, whose size the others are."""

START_CODE: Final = b"\x00\x00\x01"
START_CODES: Final = (START_CODE, b"\x00" + START_CODE)


@dataclass(frozen=True, slots=True)
class UnitCheck:
    """What an access unit is: `fault` says in words why it cannot be muxed.

    Else `idr` tells a picture that nothing after it in decode order refers back over, and `open_gop` one at which
    decoding can begin, but after which pictures may come that are shown before it; it can be both.
    """

    idr: bool
    fault: str | None = None
    open_gop: bool = False


KEY_UNIT: Final = UnitCheck(True)
OTHER_UNIT: Final = UnitCheck(False)


def nal_starts(unit: bytes, length_size: int, header_size: int) -> list[int] | str:
    """Where the NAL units of an access unit begin, or in words what of its framing does not hold.

    They have length prefixes of `length_size` bytes, or start codes (`ANNEX_B`), and headers of `header_size` bytes.
    """
    if length_size == ANNEX_B:
        return _after_start_codes(unit, header_size)
    size = len(unit)
    position = 0
    starts: list[int] = []
    while position < size:
        start = position + length_size
        length = int.from_bytes(unit[position:start], "big")
        if length < header_size or start + length > size:
            return _bad_length(unit, position, length_size, header_size)
        starts.append(start)
        position = start + length
    return starts


def _after_start_codes(unit: bytes, header_size: int) -> list[int] | str:
    size = len(unit)
    code = unit.find(START_CODE)
    if code < 0 or unit[:code].strip(b"\x00"):
        return "no start code at byte 0"
    starts: list[int] = []
    while code >= 0:
        start = code + 3
        if start + header_size > size:
            return f"no NAL header follows the start code at byte {code}"
        starts.append(start)
        code = unit.find(START_CODE, start)
    return starts


def _bad_length(unit: bytes, position: int, length_size: int, header_size: int) -> str:
    left = len(unit) - position - length_size
    if left < header_size:
        return f"the unit of {len(unit)} bytes ends in the length prefix at byte {position}"
    length = int.from_bytes(unit[position : position + length_size], "big")
    return f"the length prefix at byte {position} says {length}, expected {header_size} to {left}"


def in_start_codes(data: bytes) -> list[bytes]:
    """The NAL units between start codes, without the zeros behind them; none that is empty."""
    return [nal for unit in data.split(START_CODE)[1:] if (nal := unit.rstrip(b"\x00"))]


def array_of_nals(record: bytes, position: int, count: int) -> tuple[list[bytes], int] | None:
    """`count` NAL units of a decoder configuration record, each after its length of two bytes, and where they end.

    None where the record is cut short.
    """
    nals: list[bytes] = []
    for _ in range(count):
        start = position + 2
        position = start + int.from_bytes(record[position:start], "big")
        if position > len(record):
            return None
        nals.append(record[start:position])
    return nals, position
