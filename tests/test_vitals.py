from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import padreel.vitals
from padreel.vitals import watch_loop, watch_room


def run_until(done: asyncio.Event, watch: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        task = asyncio.create_task(watch())
        async with asyncio.timeout(300):
            await done.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())


def test_a_loop_that_wakes_late_has_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padreel.vitals, "_NAP_SECONDS", 0.001)
    times = iter([0, 1_000_000, 10**9, 3 * 10**9 + 1_000_000])
    found: list[float] = []
    done = asyncio.Event()

    def stalled(seconds: float) -> None:
        found.append(seconds)
        if len(found) == 2:
            done.set()

    def now_ns() -> int:
        return next(times, 0)

    run_until(done, lambda: watch_loop(now_ns, stalled))
    assert found == pytest.approx([0.0, 2.0])


def test_the_room_below_the_output_root(tmp_path: Path) -> None:
    found: list[tuple[int, int]] = []
    done = asyncio.Event()

    def room(available: int, size: int) -> None:
        found.append((available, size))
        done.set()

    run_until(done, lambda: watch_room(tmp_path, room))
    ((available, size),) = found
    assert 0 <= available <= size == shutil.disk_usage(tmp_path).total


def test_a_disk_that_does_not_answer_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padreel.vitals, "_ROOM_SECONDS", 0.0)
    missing = tmp_path / "later"
    answers = iter([OSError(5, "Input/output error"), OSError(5, "Input/output error")])
    usage = shutil.disk_usage

    def ask(path: Path) -> Any:
        for error in answers:
            raise error
        return usage(tmp_path)

    monkeypatch.setattr(shutil, "disk_usage", ask)
    done = asyncio.Event()
    run_until(done, lambda: watch_room(missing, lambda available, size: done.set()))
