"""Where a video can be cut without encoding: which packets an episode's pictures need. Pure.

Packets come in decode order, pictures are counted in display order; B-frames make the two differ. A cut begins at a
key picture, which may be shown before the episode's first picture, and ends with the last packet that one of its
pictures is, which may come after packets that are shown later than the episode. Leading pictures of that first key,
shown before it and decoded after it, are left out: nothing that is shown after the key refers to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from padreel.errors import CorruptShardError


@dataclass(frozen=True, slots=True)
class PacketOrder:
    """A video's packets in decode order: each one's display position, and whether it is a key.

    A key is a picture that nothing shown after it refers back over: an IDR, where an open GOP of HEVC begins, a shown
    key frame of AV1, and a video's first packet.
    """

    positions: NDArray[np.int64]
    keys: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cut:
    """The pictures `first ... first + length - 1` of a video, and the packets that they need.

    These are the ones from the key `begin` up to, and without, `end` that are not shown before that key, which is
    `before` pictures above `first`; `after` of them are shown after the last picture. `hidden` of them are no picture
    of the cut.
    """

    first: int
    length: int
    begin: int
    end: int
    before: int
    after: int
    hidden: int


def cut_of(order: PacketOrder, first: int, length: int) -> Cut:
    """The shortest cut that shows these pictures. Raises CorruptShardError where one of them is not there."""
    positions = order.positions
    wanted = np.flatnonzero((positions >= first) & (positions < first + length))
    if length < 1 or len(wanted) != length or len(np.unique(positions[wanted])) != length:
        raise CorruptShardError(f"{len(wanted)} pictures from {first} on, expected {length}")
    keys = np.flatnonzero(order.keys[: wanted[0] + 1] & (positions[: wanted[0] + 1] <= first))
    if not len(keys):
        raise CorruptShardError(f"no key at or before picture {first}")
    begin, end = int(keys[-1]), int(wanted[-1]) + 1
    copied = positions[begin:end][positions[begin:end] >= positions[begin]]
    after = int((copied >= first + length).sum())
    return Cut(first, length, begin, end, first - int(positions[begin]), after, len(copied) - length)


def cut_from_key(order: PacketOrder, first: int, length: int) -> Cut:
    """The same with all pictures from the key on, as if they were the episode's too; `first` is the key's position."""
    cut = cut_of(order, first, length)
    return cut_of(order, first - cut.before, cut.before + length)


def whole_cut(order: PacketOrder, first: int, length: int) -> Cut | None:
    """The longest cut within these pictures whose packets show nothing else; None where there is none.

    It begins at the first key among them, and ends before the first picture that needs one that is shown after them.
    """
    end = first + length
    cut = cut_of(order, first, length)
    if cut.before:
        starts = order.positions[order.keys]
        inside = starts[(starts > first) & (starts < end)]
        if not len(inside):
            return None
        cut = cut_of(order, int(inside.min()), end - int(inside.min()))
    while cut.after and cut.length > 1:
        cut = cut_of(order, cut.first, cut.length - 1)
    return None if cut.after else cut
