"""Which packets an episode needs: enough to decode all its pictures, and no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.errors import CorruptShardError
from padreel.exports.cuts import PacketOrder, cut_from_key, cut_of, whole_cut


@dataclass(frozen=True)
class Stream:
    """Packets in decode order, and for each the packets (by place in that order) that its picture refers to."""

    order: PacketOrder
    needs: list[set[int]]

    @property
    def count(self) -> int:
        return len(self.needs)

    def decodable(self, packets: set[int]) -> set[int]:
        """The display positions that these packets show right."""
        whole: set[int] = set()
        for at in sorted(packets):
            if self.needs[at] <= whole:
                whole.add(at)
        return {int(self.order.positions[at]) for at in whole}


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """GOPs of a key, anchors, and B-pictures between anchors; an open GOP's key is shown after its first B-pictures."""
    positions: list[int] = []
    keys: list[bool] = []
    needs: list[set[int]] = []
    shown = 0  # the next display position
    anchor: int | None = None

    def add(position: int, refers: set[int], key: bool = False) -> int:
        positions.append(position)
        keys.append(key)
        needs.append(refers)
        return len(needs) - 1

    for _ in range(draw(st.integers(1, 4))):
        leading = draw(st.integers(0, 2)) if anchor is not None else 0
        before, anchor = anchor, add(shown + leading, set(), key=True)
        for i in range(leading):
            assert before is not None
            add(shown + i, {before, anchor})
        shown += leading + 1
        for _ in range(draw(st.integers(0, 3))):
            b_frames = draw(st.integers(0, 3))
            before, anchor = anchor, add(shown + b_frames, {anchor})
            for i in range(b_frames):
                add(shown + i, {before, anchor})
            shown += b_frames + 1
    return Stream(PacketOrder(np.array(positions), np.array(keys)), needs)


def packets(stream: Stream, begin: int, end: int) -> set[int]:
    """What a cut copies."""
    positions = stream.order.positions
    return {at for at in range(begin, end) if positions[at] >= positions[begin]}


@given(streams(), st.data())
def test_a_cut_shows_every_picture_and_begins_as_late_as_it_can(stream: Stream, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, stream.count - 1))
    length = data.draw(st.integers(1, stream.count - first))
    wanted = set(range(first, first + length))
    cut = cut_of(stream.order, first, length)
    copied = packets(stream, cut.begin, cut.end)
    assert stream.order.keys[cut.begin]
    assert wanted <= stream.decodable(copied)
    shown = {int(stream.order.positions[at]) for at in copied}
    assert cut.before == first - min(shown) == first - stream.order.positions[cut.begin]
    assert cut.after == len([one for one in shown if one >= first + length])
    assert cut.hidden == len(shown - wanted)
    assert not wanted <= stream.decodable(packets(stream, cut.begin, cut.end - 1))
    for key in np.flatnonzero(stream.order.keys):
        if key > cut.begin:
            assert not wanted <= stream.decodable(packets(stream, int(key), cut.end))


@given(streams(), st.data())
def test_from_the_key_on_no_picture_is_missing(stream: Stream, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, stream.count - 1))
    length = data.draw(st.integers(1, stream.count - first))
    cut, shown = cut_of(stream.order, first, length), cut_from_key(stream.order, first, length)
    assert (shown.first, shown.length, shown.before) == (first - cut.before, cut.before + length, 0)
    wanted = set(range(shown.first, first + length))
    assert wanted <= stream.decodable(packets(stream, shown.begin, shown.end))


@given(streams(), st.data())
def test_a_whole_cut_is_the_longest_that_shows_nothing_else(stream: Stream, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, stream.count - 1))
    length = data.draw(st.integers(1, stream.count - first))
    found = whole_cut(stream.order, first, length)
    keys = {int(one) for one in stream.order.positions[stream.order.keys]}
    starts = [start for start in range(first, first + length) if start in keys]
    if not starts:
        assert found is None
        return
    alone = [
        (start, count)
        for start in starts[:1]
        for count in range(1, first + length - start + 1)
        if not (one := cut_of(stream.order, start, count)).before and not one.after
    ]
    assert (found is None) == (not alone)
    if found is not None:
        assert (found.first, found.length) == alone[-1]
        assert not found.before
        assert not found.after
        shown = {int(stream.order.positions[at]) for at in packets(stream, found.begin, found.end)}
        assert shown == set(range(found.first, found.first + found.length))


def test_pictures_that_are_not_there_are_refused() -> None:
    order = PacketOrder(np.array([0, 3, 1]), np.array([True, False, False]))  # picture 2 was lost
    assert cut_of(order, 0, 2).after == 1
    whole = whole_cut(order, 0, 2)
    assert whole is not None
    assert (whole.first, whole.length) == (0, 1)
    for first, length in ((0, 3), (0, 4), (2, 1), (3, 2), (0, 0)):
        with pytest.raises(CorruptShardError, match="expected"):
            cut_of(order, first, length)
    with pytest.raises(CorruptShardError, match="no key"):
        cut_of(PacketOrder(np.array([2, 0, 1]), np.array([True, False, False])), 0, 3)
