"""Access units and decoder configurations of HEVC: how they are framed, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from padreel.core.hevc import check_hevc, form_of_hevc, length_prefixed
from padreel.core.hvcc import hvcc_of
from padreel.core.nal import ANNEX_B, UnitCheck
from padreel.model import Stream
from tests.h264_units import annex_b, prefixed
from tests.hevc_units import AUD, BLA, CRA, HVCC, IDR, IDR_W_RADL, PPS, RASL, SEI, SPS, TRAIL, VPS, hvcc, nal
from tests.video_source import START_CODE, Clip, Source, encode_clip, moving_pictures
from tests.video_source import annex_b as with_start_codes


@pytest.mark.parametrize(("length_size", "form"), [(1, 1), (2, 2), (3, None), (4, 4)])
def test_the_framing_is_read_from_an_hvcc(length_size: int, form: int | None) -> None:
    assert form_of_hevc(hvcc((32, (VPS,)), (33, (SPS,)), (34, (PPS,)), length_size=length_size)) == form


def test_the_framing_is_read_from_start_codes() -> None:
    assert form_of_hevc(annex_b(VPS, SPS, PPS)) == ANNEX_B
    assert form_of_hevc(annex_b(VPS, SPS, PPS, SEI)[1:]) == ANNEX_B
    assert form_of_hevc(VPS) is None


@pytest.mark.parametrize("size", range(len(HVCC)))
def test_an_hvcc_cut_short_is_none(size: int) -> None:
    assert form_of_hevc(HVCC[:size]) is None


@pytest.mark.parametrize(
    "extradata",
    [
        hvcc((32, (VPS,)), (33, (SPS,))),
        hvcc((32, (VPS,)), (33, (PPS,)), (34, (PPS,))),  # an array with a set of another type
        hvcc((33, (SPS,)), (34, (PPS,))),
        hvcc((32, (VPS,)), (33, (SPS,)), (34, (b"",))),
        hvcc(),
        annex_b(SPS, PPS),
        annex_b(VPS, PPS),
        annex_b(VPS, SPS),
        annex_b(VPS, SPS[:12], PPS),
        annex_b(VPS, nal(33, b"\x01" + bytes(40)), PPS),  # codes without an end
        annex_b(VPS, nal(33, SPS[2:], layer=1), PPS),
    ],
)
def test_extradata_without_whole_parameter_sets_is_none(extradata: bytes) -> None:
    assert form_of_hevc(extradata) is None


@pytest.mark.parametrize(
    ("units", "check"),
    [
        ((IDR,), UnitCheck(True)),
        ((BLA,), UnitCheck(True)),
        ((IDR_W_RADL,), UnitCheck(True, open_gop=True)),
        ((CRA,), UnitCheck(False, open_gop=True)),
        ((TRAIL,), UnitCheck(False)),
        ((RASL,), UnitCheck(False)),
        ((TRAIL, nal(1, b"\x20\x10")), UnitCheck(False)),
        ((AUD, VPS, SPS, PPS, SEI, IDR, nal(20, b"\x40"), nal(40, b"\x01")), UnitCheck(True)),
        ((nal(0, temporal=7),), UnitCheck(False)),
    ],
)
def test_sound_units_pass(units: tuple[bytes, ...], check: UnitCheck) -> None:
    for size in (1, 2, 4):
        assert check_hevc(prefixed(*units, size=size), size) == check
    assert check_hevc(annex_b(*units), ANNEX_B) == check
    assert check_hevc(annex_b(*units) + b"\0\0", ANNEX_B) == check  # trailing zeros belong to no NAL


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ((AUD, SEI), "no slice in the unit"),
        ((nal(1, layer=1),), "layer 1 in the NAL header at byte 4, expected 0"),
        ((nal(1, layer=32),), "layer 32 in the NAL header"),
        ((nal(1, temporal=0),), "no temporal id in the NAL header"),
        ((b"\x82\x01\x80",), "the forbidden bit of the NAL header at byte 4"),
        ((nal(10),), "NAL type 10 at byte 4, expected 0-9, 16-21 or 32-40"),
        ((nal(22),), "NAL type 22"),
        ((nal(41), TRAIL), "NAL type 41"),
        ((IDR, IDR), "2 pictures begin in the unit, expected 1"),
        ((nal(1, b"\x20"),), "0 pictures begin in the unit"),
        ((nal(1, b""),), "0 pictures begin in the unit"),
        ((TRAIL, nal(21, b"\x20")), "NAL type 21 at byte 12, expected 1"),
        ((CRA, nal(1, b"\x20")), "NAL type 1 at byte 12, expected 21 as before in the unit"),
    ],
)
def test_unsound_units_are_told_in_both_framings(units: tuple[bytes, ...], words: str) -> None:
    fault = check_hevc(prefixed(*units), 4).fault
    assert fault is not None
    assert words in fault
    assert check_hevc(annex_b(*units), ANNEX_B).fault is not None


@pytest.mark.parametrize(
    ("unit", "form", "words"),
    [
        (b"", 4, "no slice"),
        (prefixed(TRAIL)[:-1], 4, "the length prefix at byte 0 says 4, expected 2 to 3"),
        (prefixed(TRAIL, b"\x02"), 4, "ends in the length prefix at byte 8"),
        (prefixed(b"\x02", TRAIL), 4, "the length prefix at byte 0 says 1, expected 2 to"),
        (annex_b(TRAIL, b"\x02"), ANNEX_B, "no NAL header follows the start code at byte 8"),
        (TRAIL, ANNEX_B, "no start code at byte 0"),
    ],
)
def test_framing_that_does_not_hold_is_told(unit: bytes, form: int, words: str) -> None:
    fault = check_hevc(unit, form).fault
    assert fault is not None
    assert words in fault


# ---- the record that is made of parameter sets -----------------------------------------------------------------


@pytest.fixture(scope="module")
def source() -> Source:
    return encode_clip(moving_pictures(5), Clip("libx265"))


def test_the_record_is_the_muxer_s(source: Source) -> None:
    """But for the encoder's SEI, and for what says nothing here: the rate, and how it may be decoded in parallel."""
    nals = with_start_codes(source).stream.extradata.split(START_CODE)[1:]
    made, theirs = bytearray(hvcc_of(nals) or b""), source.stream.extradata
    assert made[:13] == theirs[:13]
    assert (made[16] & 3, made[17] & 7, made[18] & 7, made[21]) == (1, 0, 0, theirs[21])
    at = 23
    for nal_unit in nals:
        assert made[at] & 0x80, "of hvc1 all parameter sets are in the record"
        made[at] &= 0x7F
        at += 5 + len(nal_unit)
    assert at == len(made)
    assert made[23:] == theirs[23:at]


def test_start_codes_become_length_prefixes(source: Source) -> None:
    stream, as_stored = length_prefixed(with_start_codes(source).stream)
    assert form_of_hevc(stream.extradata) == 4
    units = zip(with_start_codes(source).units, source.units, strict=True)
    assert all(as_stored(one.data) == other.data for one, other in units)
    same, untouched = length_prefixed(source.stream)
    assert same == source.stream
    assert untouched(source.units[0].data) == source.units[0].data


def test_parameter_sets_that_cannot_be_used_are_no_stream() -> None:
    stream = replace(Stream("hevc", 96, 64, 30, b""), extradata=annex_b(VPS, PPS))
    with pytest.raises(ValueError, match="without parameter sets"):
        length_prefixed(stream)
