"""HEVC units of a few bytes: right in their first ones, which is all that is looked at."""

from __future__ import annotations

import struct

# Parameter sets of a 96x64 stream, as an encoder made them.
VPS = bytes.fromhex("40010c01ffff01600000030090000003000003001e959409")
SPS = bytes.fromhex("42010101600000030090000003000003001ea030810596565924cae68080000003008000000f04")
PPS = bytes.fromhex("4401c172b42240")


def nal(kind: int, payload: bytes = b"\x80\x10", *, layer: int = 0, temporal: int = 1) -> bytes:
    """A NAL unit; the first bit of a slice's payload says that a picture begins with it."""
    return bytes([kind << 1 | layer >> 5, layer << 3 & 0xFF | temporal]) + payload


def hvcc(*arrays: tuple[int, tuple[bytes, ...]], length_size: int = 4) -> bytes:
    """A record with these parameter sets by type."""
    head = bytearray(23)
    head[0], head[21], head[22] = 1, 0x0C | length_size - 1, len(arrays)
    for kind, nals in arrays:
        head += struct.pack(">BH", 0x80 | kind, len(nals))
        for one in nals:
            head += struct.pack(">H", len(one)) + one
    return bytes(head)


HVCC = hvcc((32, (VPS,)), (33, (SPS,)), (34, (PPS,)))
AUD, SEI = nal(35, b"\x50"), nal(39, b"\x05\x01")
IDR, IDR_W_RADL, CRA, BLA, TRAIL, RASL = nal(20), nal(19), nal(21), nal(16), nal(1), nal(9)
