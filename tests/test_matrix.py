"""Which interpreters the test matrix finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy.matrix import MINORS, Row, candidates, newest_of_each, table, version_of


def interpreter(path: Path, answer: str, code: int = 0) -> Path:
    """A script in the place of an interpreter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {answer}\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_the_newest_of_each_minor_is_taken_from_wherever_it_is(tmp_path: Path) -> None:
    on_path = interpreter(tmp_path / "bin" / "python3.11", "3.11.2")
    interpreter(tmp_path / "bin" / "python3.12", "no such version", code=127)  # as a shim answers
    pyenv = tmp_path / ".pyenv" / "versions"
    interpreter(pyenv / "3.10.13" / "bin" / "python3", "3.10.13")
    interpreter(pyenv / "3.11.1" / "bin" / "python3", "3.11.1")
    older = interpreter(pyenv / "3.12.9" / "bin" / "python3", "3.12.9")
    newer = interpreter(pyenv / "3.12.10" / "bin" / "python3", "3.12.10")
    interpreter(tmp_path / ".local/share/uv/python/cpython-3.14/bin/python3", "3.14.0")
    (tmp_path / "bin" / "python3.13").write_text("not to be run")
    environment = {"PATH": f"{tmp_path / 'none'}:{tmp_path / 'bin'}:"}

    found = list(candidates(environment, tmp_path))

    assert older in found
    assert newest_of_each(found) == {"3.11": on_path, "3.12": newer}
    assert newest_of_each(candidates({"PYENV_ROOT": str(tmp_path / "elsewhere")}, tmp_path / "nobody")) == {}


def test_this_interpreter_tells_its_version() -> None:
    assert version_of(Path(sys.executable)) == ".".join(map(str, sys.version_info[:3]))


def test_every_python_of_the_matrix_is_pinned() -> None:
    folder = Path(__file__).resolve().parents[1] / "deploy" / "requirements"
    for minor in MINORS:
        tag = "py" + minor.replace(".", "")
        for name in (f"{tag}.txt", f"{tag}-without-lerobot.txt"):
            assert (folder / name).read_text().startswith(f"# Python {minor}"), name


@pytest.mark.parametrize("result", ["passed", "FAILED in make test"])
def test_the_table_tells_of_each(result: str) -> None:
    text = table([Row("3.11.7", "0.4.4", "0.10.0", result)], ["3.13"])
    assert text.splitlines()[1].split() == ["3.11.7", "0.4.4", "0.10.0", *result.split()]
    assert text.splitlines()[2].split() == ["3.13", "not", "found"]
