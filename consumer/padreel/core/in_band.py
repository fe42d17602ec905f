"""Parameter sets in band: in a file with pictures of several encoders each key brings its own."""

from __future__ import annotations

from typing import Final

from padreel.core.h264 import form_of_h264
from padreel.core.hevc import form_of_hevc
from padreel.core.hvcc import PPS, SPS, VPS, kind_of
from padreel.core.nal import array_of_nals

LENGTH_BYTES: Final = 4
_AVCC_COUNTS_AT: Final = 5
_HVCC_COUNT_AT: Final = 22
_COMPLETE: Final = 0x80  # of an hvcC's array: no set of that type is in band
_H264_DELIMITER: Final = 9
_HEVC_DELIMITER: Final = 35


def sets_of(codec: str, extradata: bytes) -> bytes | None:
    """The parameter sets of an avcC or hvcC as NAL units with lengths of 4 bytes.

    None where they cannot go in band: units are framed otherwise, or it is AV1, whose files have one sequence header.
    """
    if codec == "h264" and form_of_h264(extradata) == LENGTH_BYTES:
        found = _of_avcc(extradata)
    elif codec == "hevc" and form_of_hevc(extradata) == LENGTH_BYTES:
        found = [nal for at in _arrays(extradata) for nal in _nals(extradata, at) if kind_of(nal) in (VPS, SPS, PPS)]
    else:
        return None
    return b"".join(len(nal).to_bytes(LENGTH_BYTES, "big") + nal for nal in found)


def not_complete(codec: str, extradata: bytes) -> bytes:
    """The record of a file in which other parameter sets come in band: an hvcC that does not say it has all."""
    if codec != "hevc":
        return extradata
    record = bytearray(extradata)
    for at in _arrays(extradata):
        record[at] &= ~_COMPLETE & 0xFF
    return bytes(record)


def with_sets(codec: str, unit: bytes, sets: bytes) -> bytes:
    """An access unit (lengths of 4 bytes) with parameter sets before its slices, behind a delimiter if it has one."""
    if len(unit) > LENGTH_BYTES:
        first = unit[LENGTH_BYTES:]
        is_delimiter = kind_of(first) == _HEVC_DELIMITER if codec == "hevc" else first[0] & 31 == _H264_DELIMITER
        if is_delimiter:
            end = LENGTH_BYTES + int.from_bytes(unit[:LENGTH_BYTES], "big")
            return unit[:end] + sets + unit[end:]
    return sets + unit


def _of_avcc(avcc: bytes) -> list[bytes]:
    found: list[bytes] = []
    at = _AVCC_COUNTS_AT
    for mask in (0x1F, 0xFF):  # sequence parameter sets, then picture parameter sets
        nals = array_of_nals(avcc, at + 1, avcc[at] & mask)
        assert nals is not None  # its form is known, so it is whole
        found += nals[0]
        at = nals[1]
    return found


def _arrays(hvcc: bytes) -> list[int]:
    """Where the arrays of an hvcC begin, which is whole."""
    found: list[int] = []
    at = _HVCC_COUNT_AT + 1
    for _ in range(hvcc[_HVCC_COUNT_AT]):
        found.append(at)
        nals = array_of_nals(hvcc, at + 3, int.from_bytes(hvcc[at + 1 : at + 3], "big"))
        assert nals is not None
        at = nals[1]
    return found


def _nals(hvcc: bytes, at: int) -> list[bytes]:
    nals = array_of_nals(hvcc, at + 3, int.from_bytes(hvcc[at + 1 : at + 3], "big"))
    assert nals is not None
    return nals[0]
