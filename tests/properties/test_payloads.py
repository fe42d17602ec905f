"""Payloads that are held packed, against a plain list."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.core import payloads
from padreel.core.payloads import PackedPayloads, Payloads

PAYLOAD = st.binary(max_size=20)


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payloads, "BLOCK_PAYLOADS", 4)
        patch.setattr(payloads, "BLOCK_BYTES", 40)
        yield


@given(st.data())
def test_they_are_what_a_list_holds(data: st.DataObject) -> None:
    held, plain = Payloads(), list[bytes]()
    parts: list[tuple[PackedPayloads, list[bytes]]] = []
    for _ in range(data.draw(st.integers(1, 12))):
        for payload in data.draw(st.lists(PAYLOAD, max_size=10)):
            held.append(payload)
            plain.append(payload)
        until = data.draw(st.integers(0, len(plain)))
        first = data.draw(st.integers(0, until))
        parts.append((held.part(first, until), plain[first:until]))
        count = data.draw(st.integers(0, len(plain)))
        held.drop(count)
        del plain[:count]
    parts.append((held.part(0, len(plain)), plain))
    for part, expected in parts:  # also those that were let go since
        assert list(part) == expected
        assert len(part) == len(expected)
        assert part[1:-1] == tuple(expected[1:-1])
        assert [part[i - len(expected)] for i in range(len(expected))] == expected


@given(st.lists(PAYLOAD))
def test_bytes_held_are_given_back(some: list[bytes]) -> None:
    held = Payloads()
    for payload in some:
        held.append(payload)
    if len(some) < 4 and sum(map(len, some)) < 40:
        assert held.held_bytes == sum(map(len, some))
    held.drop(len(some))
    assert held.held_bytes == 0


def test_what_is_packed_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "BLOCK_PAYLOADS", 100)
    monkeypatch.setattr(payloads, "BLOCK_BYTES", 800)
    held = Payloads()
    for _ in range(1_000):
        held.append(bytes(8))
    assert 0 < held.held_bytes < 8_000 // 10


def test_a_number_beyond_the_end_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        Payloads().part(0, 0)[0]
