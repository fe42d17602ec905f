"""H.264 units of a few bytes: right in their first ones, which is all that is looked at."""

from __future__ import annotations

import struct

SPS, PPS = b"\x67\x64\x00\x1f\xac", b"\x68\xeb\xe3"
AVCC = b"\x01\x64\x00\x1f\xff\xe1" + struct.pack(">H", len(SPS)) + SPS + b"\x01" + struct.pack(">H", len(PPS)) + PPS
ANNEX_B_EXTRADATA = b"\0\0\0\x01" + SPS + b"\0\0\0\x01" + PPS
AUD, SEI, IDR, SLICE = b"\x09\xf0", b"\x06\x05\x01", b"\x65\x88\x84", b"\x41\x9a\x02"


def prefixed(*units: bytes, size: int = 4) -> bytes:
    return b"".join(len(unit).to_bytes(size, "big") + unit for unit in units)


def annex_b(*units: bytes) -> bytes:
    return b"\0" + b"".join(b"\0\0\x01" + unit for unit in units)
