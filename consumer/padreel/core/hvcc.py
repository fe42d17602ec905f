"""An hvcC record made of HEVC's parameter sets, where a rig sends those with start codes.

The muxer could make one too. But it believes every count that it finds in them, and one damaged bit keeps it busy for
hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

VPS, SPS, PPS = 32, 33, 34

_PROFILE_BYTES: Final = 12  # general profile, tier, flags and level
_SUB_LAYER_PROFILE_BITS: Final = 88
_SUB_LAYER_LEVEL_BITS: Final = 8
_MAX_SUB_LAYERS: Final = 7
_LONGEST_CODE: Final = 32  # leading zeros of an Exp-Golomb code
_MAX_CHROMA_FORMAT: Final = 3
_MAX_DEPTH: Final = 8  # bits more than 8
_LENGTH_SIZE: Final = 4


def kind_of(nal: bytes) -> int:
    """The type of a NAL unit."""
    return nal[0] >> 1 & 63


class _Bits:
    """Bits of a NAL unit's payload, from the first one on. Reading beyond the end raises IndexError."""

    def __init__(self, payload: bytes) -> None:
        self._left = len(payload) * 8
        self._value = int.from_bytes(payload, "big")

    def take(self, count: int) -> int:
        if count > self._left:
            raise IndexError("the parameter set ends too soon")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def code(self) -> int:
        """An unsigned Exp-Golomb code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _LONGEST_CODE:
                raise IndexError("the parameter set has no such code")
        return (1 << zeros) - 1 + self.take(zeros)


def hvcc_of(nals: Sequence[bytes]) -> bytes | None:
    """The record of these parameter sets; units that they frame have length prefixes of 4 bytes.

    None where one of VPS, SPS and PPS is missing, or the first SPS cannot be read up to its bit depths.
    """
    sets = {kind: [nal for nal in nals if kind_of(nal) == kind] for kind in (VPS, SPS, PPS)}
    if not all(sets.values()):
        return None
    try:
        head = _head(sets[SPS][0])
    except IndexError:
        return None
    if head is None:
        return None
    arrays = b"".join(
        bytes([0x80 | kind]) + len(found).to_bytes(2, "big") + b"".join(len(n).to_bytes(2, "big") + n for n in found)
        for kind, found in sets.items()
    )
    return head + bytes([len(sets)]) + arrays


def _head(sps: bytes) -> bytes | None:
    """The record up to its count of arrays."""
    payload = sps[2:].replace(b"\x00\x00\x03", b"\x00\x00")  # without what keeps start codes out
    bits = _Bits(payload)
    bits.take(4)
    sub_layers, nested = bits.take(3), bits.take(1)
    bits.take(8 * _PROFILE_BYTES)
    if sub_layers == _MAX_SUB_LAYERS:
        return None
    _skip_sub_layers(bits, sub_layers)
    bits.code()  # the SPS's id
    chroma = bits.code()
    if chroma == _MAX_CHROMA_FORMAT:
        bits.take(1)
    bits.code(), bits.code()  # width and height
    if bits.take(1):
        for _ in range(4):  # the cropping
            bits.code()
    depths = bits.code(), bits.code()
    if chroma > _MAX_CHROMA_FORMAT or max(depths) > _MAX_DEPTH:
        return None
    layers = sub_layers + 1 << 3 | nested << 2 | _LENGTH_SIZE - 1
    tail = [0xF0, 0, 0xFC, 0xFC | chroma, 0xF8 | depths[0], 0xF8 | depths[1], 0, 0, layers]
    return b"\x01" + payload[1 : 1 + _PROFILE_BYTES] + bytes(tail)


def _skip_sub_layers(bits: _Bits, count: int) -> None:
    if not count:
        return
    flags = [(bits.take(1), bits.take(1)) for _ in range(count)]
    bits.take(2 * (8 - count))
    for has_profile, has_level in flags:
        bits.take(_SUB_LAYER_PROFILE_BITS * has_profile + _SUB_LAYER_LEVEL_BITS * has_level)
