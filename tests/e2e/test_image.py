"""What the Dockerfile installs, installed here: of what it copies, into a clean environment, without torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DEMO = CHECKOUT / "deploy" / "demo"

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the image's Python is 3.11"),
]


def copied() -> list[str]:
    """What the first stage of the Dockerfile takes from the checkout."""
    first, _, _ = (CHECKOUT / "deploy" / "Dockerfile").read_text("utf-8").partition("RUN deploy/image/install.sh")
    return [name for line in re.findall(r"^COPY (.+) \S+$", first, re.M) for name in line.split()]


def test_the_steps_of_the_image_install_a_consumer_that_starts_without_torch(tmp_path: Path) -> None:
    checkout, target = tmp_path / "src", tmp_path / "padreel"
    for name in copied():
        source = CHECKOUT / name
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, checkout / name)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    install = [str(checkout / "deploy/image/install.sh"), str(target)]
    subprocess.run(install, env={**clean, "PYTHON": sys.executable}, check=True)

    ask = "import importlib.util as u; print([n for n in ('torch', 'lerobot', 'pytest', 'pip') if u.find_spec(n)])"
    found = subprocess.run([target / "bin/python", "-c", ask], env=clean, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "PADREEL_GAME_DEFINITION": str(DEMO / "game-definition.yaml"),
        "PADREEL_ACTION_MAPPING": str(DEMO / "action-mapping.yaml"),
        "PADREEL_OUTPUT_ROOT": str(tmp_path / "data"),
        "PADREEL_REPO_ID": "demo/padreel",
        "PADREEL_TASK": "play",
        "PADREEL_FPS": "30",
        "PADREEL_SIZE": "640x360",
    }
    started = subprocess.run(
        [target / "bin/padreel", "consume"], env={**clean, **settings}, capture_output=True, text=True, check=False
    )
    assert started.returncode == 1, started.stderr
    assert "127.0.0.1:1" in started.stderr, started.stderr
