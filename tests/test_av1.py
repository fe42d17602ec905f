"""Temporal units and decoder configurations of AV1, and what is wrong with them."""

from __future__ import annotations

import pytest

from padreel.core.av1 import OBUS, check_av1, form_of_av1
from padreel.core.nal import UnitCheck


def obu(kind: int, payload: bytes = b"", *, size: int | None = None, extension: int | None = None) -> bytes:
    """An OBU with its size in one byte, or with another size than it has."""
    header = kind << 3 | 2 | (4 if extension is not None else 0)
    more = b"" if extension is None else bytes([extension])
    return bytes([header]) + more + bytes([len(payload) if size is None else size]) + payload


SEQUENCE = obu(1, b"\0\0\0\x03\x2d\xff")
DELIMITER = obu(2)
KEY, SHOWN, HIDDEN, INTRA = (obu(6, bytes([first, 0])) for first in (0x10, 0x30, 0x28, 0x50))
HIDDEN_KEY, EXISTING = obu(6, b"\0\0"), obu(3, b"\x88")


@pytest.mark.parametrize("extradata", [SEQUENCE, b"\x81\0\x0c\0" + SEQUENCE, SEQUENCE + obu(5, b"\x04\0")])
def test_extradata_that_can_be_used(extradata: bytes) -> None:
    assert form_of_av1(extradata) == OBUS


@pytest.mark.parametrize(
    "extradata",
    [
        b"",
        b"\x81\0\x0c",
        b"\x81\0\x0c\0",  # without a sequence header
        b"\x82\0\x0c\0" + SEQUENCE,  # another version
        b"\x81\0\x0c\0" + SEQUENCE[:-1],
        SEQUENCE + SEQUENCE,
        SEQUENCE + KEY,
        obu(1, b"\0\0\0"),
        obu(1, b"\x10\0\0\0"),  # a still picture
        obu(5, b"\x04\0"),
    ],
)
def test_extradata_that_cannot(extradata: bytes) -> None:
    assert form_of_av1(extradata) is None


@pytest.mark.parametrize(
    ("unit", "key"),
    [
        (SEQUENCE + KEY, True),
        (DELIMITER + SEQUENCE + KEY, True),
        (DELIMITER + SEQUENCE + obu(5, b"\x04\0") + obu(3, b"\x10\0") + obu(4, b"\0") + obu(15, b"\0"), True),
        (SHOWN, False),
        (HIDDEN + HIDDEN + SHOWN, False),
        (EXISTING, False),
        (INTRA, False),  # intra only: what follows it may refer back
        (SEQUENCE + INTRA, False),
        (KEY, False),  # nobody can begin here
        (KEY + SEQUENCE, False),
        (SEQUENCE + HIDDEN_KEY + SHOWN, False),  # a key frame that is shown later
        (SEQUENCE + obu(3, b"\x98"), False),
        (obu(6, b"\x30\0", extension=0x20), False),  # a temporal layer
    ],
)
def test_sound_units_pass(unit: bytes, key: bool) -> None:
    assert check_av1(unit) == UnitCheck(key)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (b"", "0 frames are shown by the unit, expected 1"),
        (DELIMITER + SEQUENCE, "0 frames are shown"),
        (HIDDEN, "0 frames are shown"),
        (SHOWN + SHOWN, "2 frames are shown"),
        (SHOWN + EXISTING, "2 frames are shown"),
        (SHOWN[:-1], "the OBU at byte 0 has size 2, expected at most 1"),
        (b"\x32", "the OBU at byte 0 has no whole size"),
        (b"\x32\x80", "the OBU at byte 0 has no whole size"),
        (b"\x32" + b"\x80" * 9 + b"\0", "the OBU at byte 0 has no whole size"),
        (b"\x36\x00", "the OBU at byte 0 has no whole size"),
        (b"\x30\x10", "the OBU at byte 0 does not say its size"),
        (b"\xb2\x01\x10", "a forbidden or reserved bit of the OBU header at byte 0"),
        (SHOWN + b"\x33\x01\x10", "a forbidden or reserved bit of the OBU header at byte 4"),
        (obu(6, b"\x30\0", extension=0x08), "of another spatial layer than 0"),
        (SHOWN + DELIMITER, "a temporal delimiter at byte 4"),
        (obu(8, b"\0") + SHOWN, "OBU type 8 at byte 0, expected 1-7 or 15"),
        (obu(0), "OBU type 0 at byte 0"),
        (obu(6), "the OBU at byte 0 holds no frame"),
        (obu(6, b"\x98"), "the OBU at byte 0 holds no frame"),
        (obu(1, b"\x18\0\0\0") + KEY, "the sequence header at byte 0 is of a still picture"),
        (obu(1, b"\0") + KEY, "the sequence header at byte 0 has 1 bytes, expected 4"),
    ],
)
def test_unsound_units_are_told(unit: bytes, words: str) -> None:
    fault = check_av1(unit).fault
    assert fault is not None
    assert words in fault
