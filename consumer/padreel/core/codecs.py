"""The codecs that are taken, and what the stages need to know of each. Another codec is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from padreel.core.av1 import OBUS, check_av1, form_of_av1
from padreel.core.h264 import check_h264, form_of_h264
from padreel.core.hevc import check_hevc, form_of_hevc
from padreel.core.nal import ANNEX_B, UnitCheck

MAX_REORDER: Final = 16  # frames decoded before one that is shown earlier: H.264 and HEVC have no more


@dataclass(frozen=True, slots=True)
class Codec:
    """What is known of a codec.

    `form_of` tells the framing of access units from the extradata, None where that cannot be used; `extradata` says
    what it has to be. `check` looks at one access unit of that framing. At most `max_reorder` frames are decoded before
    one that is shown earlier. `has_leading`: pictures that are shown before a key picture may follow it.
    """

    form_of: Callable[[bytes], int | None]
    check: Callable[[bytes, int], UnitCheck]
    forms: tuple[int, ...]  # to be tried where the framing is not known
    extradata: str
    max_reorder: int
    has_leading: bool


_NALS: Final = (4, ANNEX_B)

CODECS: Final[Mapping[str, Codec]] = {
    "h264": Codec(
        form_of_h264, check_h264, _NALS, "an avcC record, or SPS and PPS with start codes", MAX_REORDER, False
    ),
    "hevc": Codec(
        form_of_hevc,
        check_hevc,
        _NALS,
        "an hvcC record, or VPS, SPS and PPS with start codes",
        MAX_REORDER,
        True,
    ),
    "av1": Codec(form_of_av1, check_av1, (OBUS,), "an av1C record or OBUs, with a sequence header", 0, False),
}


class Framing(NamedTuple):
    """How the access units of a session are encoded and framed."""

    codec: str
    form: int

    def __str__(self) -> str:
        if self.form == OBUS:
            return "OBUs"
        return "start codes" if self.form == ANNEX_B else f"length prefixes of {self.form} bytes"


def framing_of(codec: str, extradata: bytes) -> Framing | None:
    """The framing that a stream of one of `CODECS` has; None where its extradata cannot be used."""
    form = CODECS[codec].form_of(extradata)
    return None if form is None else Framing(codec, form)


def check_unit(unit: bytes, framing: Framing | None) -> UnitCheck:
    """Check one access unit. Never raises, whatever the bytes.

    With None nothing was said of the stream yet: the unit passes if it is sound in any codec. None is so in two: the
    headers of H.264's slices are of another layer in HEVC, and no OBU begins with zeros.
    """
    if framing is not None:
        return CODECS[framing.codec].check(unit, framing.form)
    first: UnitCheck | None = None
    for codec in CODECS.values():
        for form in codec.forms:
            check = codec.check(unit, form)
            if check.fault is None:
                return check
            first = first or check
    assert first is not None
    return first
