"""Writes the pins: every version of everything `make setup` installs, with the hashes of all its files.

    make pins                                   # all Python versions
    python deploy/requirements/pin.py 3.11      # one

The versions already pinned are kept where they still fit; `--upgrade` takes the newest. uv resolves, from the packages'
metadata alone and for Python versions that are not installed here. The files name no index,
so they work with any mirror.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CHECKOUT = FOLDER.parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
IMAGE = FOLDER / "image.txt"
IMAGE_PYTHON = "3.11"  # of the base image in deploy/Dockerfile
EXTRAS = ("consumer", "show", "hdf5", "dev")
IMAGE_EXTRAS = ("consumer", "show")
# The manylinux of the wheels lerobot needs (av, torchcodec); hashes cover the other platforms' files too.
PLATFORM = "x86_64-manylinux_2_28"


class PinError(RuntimeError):
    """The pins cannot be written; the message says why."""


def lock_path(python: str, *, lerobot: bool) -> Path:
    """The pins for a Python version such as "3.11"."""
    return FOLDER / f"py{python.replace('.', '')}{'' if lerobot else '-without-lerobot'}.txt"


def pin(python: str, *, lerobot: bool, upgrade: bool) -> Path:
    """Resolves for one Python version and replaces its file. Raises PinError.

    Without lerobot the versions are the same ones, so pin with it first.
    """
    arguments = [argument for extra in EXTRAS for argument in ("--extra", extra)]
    arguments += ["--extra", "lerobot"] if lerobot else ["--constraints", str(lock_path(python, lerobot=True))]
    arguments += ["--upgrade"] if upgrade else []
    what = f"Python {python}{'' if lerobot else ' without lerobot'}"
    return _resolve(lock_path(python, lerobot=lerobot), what, python, arguments)


def pin_image() -> Path:
    """Resolves what the container image installs: of the versions pinned before, the consumer's. Raises PinError."""
    constraints = str(lock_path(IMAGE_PYTHON, lerobot=False))
    arguments = [argument for extra in IMAGE_EXTRAS for argument in ("--extra", extra)]
    arguments += ["--constraints", constraints]
    return _resolve(IMAGE, f"The container image, Python {IMAGE_PYTHON}", IMAGE_PYTHON, arguments)


def _resolve(target: Path, what: str, python: str, arguments: list[str]) -> Path:
    command = [_find_uv(), "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--no-config", "--python-version", python, "--python-platform", PLATFORM]
    command += ["--no-emit-package", "padreel", *arguments, "--output-file", str(target), "pyproject.toml"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PinError(f"{what}: {done.stderr.strip()}")
    text = target.read_text("utf-8")
    address = re.search(r"^.*(?:://|--index|--find-links).*$", text, re.M)
    if address:
        raise PinError(f"{target}: names a place to download from: {address[0]}")
    target.write_text(f"# {what}; written by `make pins`.\n{text}", encoding="utf-8")
    return target


def _find_uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise PinError("uv resolves the pins and is not here: run `make setup`, which installs it, then `make pins`")
    return found


def main() -> int:
    """The command; exit code 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(description="Write the pinned requirements.")
    parser.add_argument("pythons", nargs="*", default=PYTHONS, metavar="PYTHON", help="versions, by default all")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions instead of the pinned ones")
    options = parser.parse_args()
    try:
        for python in options.pythons:
            for lerobot in (True, False):
                print(pin(python, lerobot=lerobot, upgrade=options.upgrade).relative_to(CHECKOUT))
        print(pin_image().relative_to(CHECKOUT))
    except PinError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
