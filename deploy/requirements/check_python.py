"""Stops `make setup` with a sentence when the Python it runs on has no pins."""

import sys
from pathlib import Path


def main(pins: str) -> str | None:
    """What is wrong with this Python, None if nothing."""
    if Path(pins).is_file():
        return None
    known = sorted(path.stem for path in Path(__file__).parent.glob("py*.txt"))
    version = ".".join(str(part) for part in sys.version_info[:2])
    return (
        f"no pins for Python {version} ({pins}); choose one of {', '.join(known)} with `make setup PYTHON=python3.11`"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
