"""The little of H.264's syntax that a publisher needs: NAL unit types, without decoding.

Access units come in two framings. In an mp4 each NAL unit has a length before it, of the size that the `avcC`
extradata names; in Annex B a start code (00 00 01) stands before each.
"""

from __future__ import annotations

from collections.abc import Iterator

IDR = 5
_START_CODE = b"\x00\x00\x01"


def length_size(extradata: bytes) -> int | None:
    """Return how many bytes a NAL unit's length has, or None where the extradata is not avcC (Annex B)."""
    if len(extradata) < 7 or extradata[0] != 1:
        return None
    return (extradata[4] & 3) + 1


def nal_types(unit: bytes, prefix: int | None) -> Iterator[int]:
    """Yield the NAL unit types of an access unit, as far as its framing holds.

    `prefix` is the size of the lengths, None for start codes. A damaged unit ends the iteration and raises nothing:
    whether a unit is whole is for its reader to check.
    """
    if prefix is None:
        at = unit.find(_START_CODE)
        while at >= 0 and at + 3 < len(unit):
            yield unit[at + 3] & 0x1F
            at = unit.find(_START_CODE, at + 3)
        return
    at = 0
    while at + prefix < len(unit):
        yield unit[at + prefix] & 0x1F
        at += prefix + int.from_bytes(unit[at : at + prefix], "big")


def has_idr(unit: bytes, prefix: int | None) -> bool:
    """Return whether decoding can start at this access unit: it has a slice of an IDR picture."""
    return IDR in nal_types(unit, prefix)
