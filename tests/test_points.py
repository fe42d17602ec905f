"""Crash points: what may be asked for, and what happens the time that was asked for and at no other."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from padreel.dataset import points

PATH = Path("commits/3.json")


def test_an_error_is_raised_once_the_third_time() -> None:
    probe = points.parse("after link:3:ENOSPC")
    for point in ("after link", "before link", "after link", "after rename"):
        probe(point, PATH)
    with pytest.raises(OSError, match=r"No space left .*after link.*commits/3\.json") as caught:
        probe("after link", PATH)
    assert caught.value.errno == errno.ENOSPC
    probe("after link", PATH)


@pytest.mark.parametrize(("action", "expected"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_signals_go_to_the_process_itself(action: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    probe = points.parse(f"*:2:{action}")
    probe("before fold", PATH)
    assert sent == []
    probe("after fold", PATH)
    assert sent == [(os.getpid(), expected)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("after link", "expected point:count:action"),
        ("aftr link:1:kill", "point: found 'aftr link', expected"),
        ("after link:0:kill", "count: found 0"),
        ("after link:x:kill", "invalid literal"),
        ("after link:1:die", "action: found 'die', expected kill, stop or an errno's name"),
    ],
)
def test_what_cannot_be_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"PADREEL_CRASH_POINT=.*" + message):
        points.from_environment({points.VARIABLE: text})
