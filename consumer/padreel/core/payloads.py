"""The bytes of EVENTs. A session has a great many and looks at few: all but the newest are held packed.

An EVENT of a pad is 35 bytes, which as an object in a list take 90; packed it takes 10 to 17, for a third of a
microsecond. (Measured on recordings of a GameCube pad, and on sticks that turn without a rest.)
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple, overload

BLOCK_PAYLOADS: Final = 1_024
BLOCK_BYTES: Final = 65_536
_LEVEL: Final = 1  # the higher ones take twice the time for a seventh less


class _Block(NamedTuple):
    """Payloads that follow each other; packed are their sizes, and then they themselves."""

    payloads: int
    packed: bytes


def _pack(payloads: Sequence[bytes]) -> _Block:
    sizes = array("I", map(len, payloads))
    return _Block(len(payloads), zlib.compress(sizes.tobytes() + b"".join(payloads), _LEVEL))


def _unpack(block: _Block) -> Iterator[bytes]:
    content = zlib.decompress(block.packed)
    sizes: array[int] = array("I")
    at = sizes.itemsize * block.payloads
    sizes.frombytes(content[:at])
    for size in sizes:
        yield content[at : at + size]
        at += size


class PackedPayloads(Sequence[bytes]):
    """Payloads that change no more. Going through them unpacks one block at a time; one by its number unpacks some."""

    __slots__ = ("_blocks", "_count", "_first", "_rest")

    def __init__(self, blocks: Iterable[_Block], rest: Iterable[bytes], first: int, count: int) -> None:
        """`count` of the payloads in `blocks` and then `rest`, from the one at `first` on."""
        self._blocks, self._rest, self._first, self._count = tuple(blocks), tuple(rest), first, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        every = chain(chain.from_iterable(map(_unpack, self._blocks)), self._rest)
        return islice(every, self._first, self._first + self._count)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[bytes, ...]: ...
    def __getitem__(self, index: int | slice) -> bytes | tuple[bytes, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        return next(islice(self, range(self._count)[index], None))


class Payloads:
    """Payloads in the order in which they came, of which the first ones are let go."""

    __slots__ = ("_blocks", "_first", "_rest", "_rest_bytes", "held_bytes")

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._first = 0  # of those held, how many were let go already
        self.held_bytes = 0  # packed, where they are

    def append(self, payload: bytes) -> None:
        """Hold one more."""
        size = len(payload)
        self._rest.append(payload)
        self._rest_bytes += size
        self.held_bytes += size
        if len(self._rest) >= BLOCK_PAYLOADS or self._rest_bytes >= BLOCK_BYTES:
            block = _pack(self._rest)
            self._blocks.append(block)
            self.held_bytes += len(block.packed) - self._rest_bytes
            self._rest, self._rest_bytes = [], 0

    def drop(self, count: int) -> None:
        """Let the first `count` go; a block is held until all of it is."""
        self._first += count
        while self._blocks and self._first >= self._blocks[0].payloads:
            gone = self._blocks.pop(0)
            self._first -= gone.payloads
            self.held_bytes -= len(gone.packed)
        if not self._blocks:
            size = sum(map(len, self._rest[: self._first]))
            del self._rest[: self._first]
            self._first = 0
            self._rest_bytes -= size
            self.held_bytes -= size

    def part(self, first: int, until: int) -> PackedPayloads:
        """Those from number `first` to before `until`, for good."""
        at, blocks = self._first + first, list(self._blocks)
        while blocks and at >= blocks[0].payloads:
            at -= blocks.pop(0).payloads
        return PackedPayloads(blocks, self._rest, at, until - first)
