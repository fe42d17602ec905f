"""Access units and decoder configurations of H.264: how they are framed, and what is wrong with them."""

from __future__ import annotations

import pytest

from padreel.core.h264 import check_h264, form_of_h264
from padreel.core.nal import ANNEX_B
from tests.h264_units import ANNEX_B_EXTRADATA, AUD, AVCC, IDR, PPS, SEI, SLICE, SPS, annex_b, prefixed


@pytest.mark.parametrize(("mask", "size"), [(0xFC, 1), (0xFD, 2), (0xFE, None), (0xFF, 4)])
def test_the_framing_is_read_from_an_avcc(mask: int, size: int | None) -> None:
    assert form_of_h264(AVCC[:4] + bytes([mask]) + AVCC[5:]) == size


def test_the_framing_is_read_from_start_codes() -> None:
    assert form_of_h264(ANNEX_B_EXTRADATA) == ANNEX_B
    assert form_of_h264(ANNEX_B_EXTRADATA[1:]) == ANNEX_B
    assert form_of_h264(SPS) is None


@pytest.mark.parametrize(
    "units",
    [(b"garbage",), (SPS,), (PPS,), (PPS, PPS), (SPS[:3], PPS), (b"", SPS), (SPS,) * 32 + (PPS,), (SPS, b"", AUD)],
)
def test_start_codes_without_parameter_sets_are_none(units: tuple[bytes, ...]) -> None:
    """The muxer makes an avcC of them; where it cannot, it writes a file that nothing opens."""
    assert form_of_h264(annex_b(*units)) is None
    assert (
        form_of_h264(annex_b(*units, SPS, PPS) if SPS not in units and SPS[:3] not in units else annex_b(SPS, PPS)) == 0
    )


@pytest.mark.parametrize("size", range(len(AVCC)))
def test_an_avcc_cut_short_is_none(size: int) -> None:
    assert form_of_h264(AVCC[:size]) is None


def test_an_avcc_without_parameter_sets_is_none() -> None:
    assert form_of_h264(AVCC[:5] + b"\xe0\x01" + b"\0\x01\x68") is None
    assert form_of_h264(AVCC[: -len(PPS) - 3] + b"\0") is None


@pytest.mark.parametrize("size", [1, 2, 4])
def test_sound_units_pass(size: int) -> None:
    whole = (AUD, SEI, SPS, PPS, IDR, IDR)
    for units, idr in [((IDR,), True), ((IDR, SLICE), True), ((SLICE,), False), (whole, True), ((AUD, SLICE), False)]:
        for check in (check_h264(prefixed(*units, size=size), size), check_h264(annex_b(*units), ANNEX_B)):
            assert (check.fault, check.idr) == (None, idr)
    assert check_h264(b"\0\0\x01" + SLICE + b"\0\0\0", ANNEX_B).fault is None  # trailing zeros belong to no NAL


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (b"", "no slice in the unit"),
        (prefixed(AUD, SEI), "no slice in the unit"),
        (prefixed(SLICE)[:-1], "the length prefix at byte 0 says 3, expected 1 to 2"),
        (prefixed(SLICE) + b"\0", "the unit of 8 bytes ends in the length prefix at byte 7"),
        (prefixed(b"", SLICE), "the length prefix at byte 0 says 0, expected 1 to 7"),
        (prefixed(b"\xe5\x88"), "the forbidden bit of the NAL header at byte 4"),
        (prefixed(SLICE, b"\x42\x01"), "NAL type 2 at byte 11, expected 1 or 5-12"),
        (prefixed(b"\x6d\x01"), "NAL type 13 at byte 4"),
        (prefixed(b"\x60\x01"), "NAL type 0 at byte 4"),
        (prefixed(SLICE, IDR), "an IDR slice at byte 11 after slices of another picture"),
        (annex_b(SLICE, SLICE), "the length prefix at byte 5 says"),
    ],
)
def test_unsound_length_prefixed_units_are_told(unit: bytes, words: str) -> None:
    fault = check_h264(unit, 4).fault
    assert fault is not None
    assert words in fault


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (b"", "no start code at byte 0"),
        (prefixed(SLICE), "no start code at byte 0"),
        (b"\x09" + annex_b(SLICE), "no start code at byte 0"),
        (annex_b(AUD), "no slice in the unit"),
        (annex_b(SLICE, b""), "no NAL header follows the start code at byte 7"),
        (annex_b(b"", SLICE), "NAL type 0 at byte 4"),
        (annex_b(b"\xc1\x01"), "the forbidden bit of the NAL header at byte 4"),
        (annex_b(b"\x54\x01"), "NAL type 20 at byte 4"),
    ],
)
def test_unsound_units_with_start_codes_are_told(unit: bytes, words: str) -> None:
    fault = check_h264(unit, ANNEX_B).fault
    assert fault is not None
    assert words in fault
