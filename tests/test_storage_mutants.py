"""Every rule of the storage protocol is needed, and its absence noticed: see `tests.mutants_storage`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from padreel.dataset import files, shard
from padreel.errors import PadreelError
from tests.mutants_storage import MUTANTS
from tests.shard_world import PlainStage

CHECKS = sorted({mutant.check for mutant in MUTANTS.values()}, key=lambda check: check.__name__)


@pytest.fixture(autouse=True)
def plain_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny files instead of video, and no waiting for a disk: the checks that lose power record the fsyncs."""
    monkeypatch.setattr(shard, "Stage", PlainStage)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    files.probe = files._silent


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_code_as_it_is_passes(tmp_path: Path, check: object) -> None:
    assert callable(check)
    check(tmp_path)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mutant = MUTANTS[name]
    mutant.switch(monkeypatch)
    with pytest.raises((AssertionError, OSError, PadreelError, pytest.fail.Exception), match=mutant.says):
        mutant.check(tmp_path)
