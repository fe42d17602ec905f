"""`make test-matrix`: the acceptance tests under every Python from 3.11 to 3.13 that is to be found.

They are the tests that lerobot judges (`-m lerobot`): 3.11 has lerobot 0.4.4, 3.12 and later 0.6.x. Decoding is by
PyAV, and by torchcodec where the system has an FFmpeg that it loads. Each Python has a virtual environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[1]
MINORS = ("3.11", "3.12", "3.13")
ENVIRONMENTS = ".venv-matrix"  # folder in the checkout, one environment in it for each Python

# Without ensurepip, as distributions ship it, no virtual environment can be made.
_ASK_VERSION = (
    "import ensurepip, sys, venv; assert sys.implementation.name == 'cpython'; print(*sys.version_info[:3], sep='.')"
)
_ASK_WHAT = """
import importlib, importlib.metadata, platform
try:
    importlib.import_module("torchcodec.decoders")
    torchcodec = importlib.metadata.version("torchcodec")
except (ImportError, OSError, RuntimeError):
    torchcodec = "left out: not installed, or no FFmpeg for it"
print(platform.python_version(), importlib.metadata.version("lerobot"), torchcodec, sep="\\t")
"""


class Row(NamedTuple):
    """What became of one Python."""

    python: str
    lerobot: str
    torchcodec: str
    result: str


def candidates(environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    """Interpreters that may be there: on the PATH, pyenv's, uv's."""
    for on_path in environment.get("PATH", "").split(os.pathsep):
        if on_path:
            yield from (Path(on_path) / f"python{minor}" for minor in MINORS)
    pyenv = Path(environment.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    uv = Path(environment.get("UV_PYTHON_INSTALL_DIR") or home / ".local" / "share" / "uv" / "python")
    for folder in (pyenv, uv):
        yield from sorted(folder.glob("*/bin/python3"))


def version_of(python: Path) -> str | None:
    """The interpreter's version, None where it does not run or cannot make virtual environments."""
    if not os.access(python, os.X_OK):
        return None
    command = [str(python), "-I", "-c", _ASK_VERSION]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def newest_of_each(pythons: Iterable[Path]) -> dict[str, Path]:
    """The newest interpreter of each minor version, by "3.11" and so on, in their order."""
    best: dict[str, tuple[tuple[int, ...], Path]] = {}
    for python in dict.fromkeys(pythons):
        version = version_of(python)
        if version is None:
            continue
        number = tuple(int(part) for part in version.split("."))
        minor = f"{number[0]}.{number[1]}"
        if minor in MINORS and (minor not in best or best[minor][0] < number):
            best[minor] = (number, python)
    return {minor: best[minor][1] for minor in MINORS if minor in best}


def run(minor: str, python: Path, arguments: str) -> Row:
    """Set an environment up and run the tests in it."""
    folder = f"{ENVIRONMENTS}/{minor}"
    # A make inside of make would take its flags over.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    make = ["make", f"VENV={folder}", f"PYTHON={python}", "LEROBOT=1"]
    for target in (["setup"], ["test", f"PYTEST_ARGUMENTS=-m lerobot {arguments}".rstrip()]):
        print(f"\n== {minor} ({python}): make {target[0]}", flush=True)
        if subprocess.run([*make, *target], cwd=CHECKOUT, env=environment, check=False).returncode != 0:
            return Row(*_what(folder, minor), f"FAILED in make {target[0]}")
    return Row(*_what(folder, minor), "passed")


def _what(folder: str, minor: str) -> tuple[str, str, str]:
    """Versions of Python, lerobot and torchcodec in an environment."""
    command = [str(CHECKOUT / folder / "bin" / "python"), "-c", _ASK_WHAT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return minor, "?", "?"
    python, lerobot, torchcodec = done.stdout.splitlines()[-1].split("\t")
    return python, lerobot, torchcodec


def table(rows: Iterable[Row], missing: Iterable[str]) -> str:
    """What became of each Python, in columns."""
    lines = [Row("Python", "lerobot", "torchcodec", "result"), *rows]
    lines += [Row(minor, "", "", "not found") for minor in missing]
    return "\n".join(f"{line.python:8}{line.lerobot:9}{line.torchcodec:48}{line.result}".rstrip() for line in lines)


def main() -> int:
    """The command; further arguments are pytest's. Exit code 1 where a run failed or no Python was found."""
    found = newest_of_each(candidates(os.environ, Path.home()))
    rows = [run(minor, python, " ".join(sys.argv[1:])) for minor, python in found.items()]
    print("\n" + table(rows, [minor for minor in MINORS if minor not in found]))
    return 0 if rows and all(row.result == "passed" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
