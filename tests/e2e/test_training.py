"""LeRobot's own training command on merged datasets: a few steps of a small ACT, on the CPU, without a network."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.dataset_reading import read_info
from tests.e2e.test_training_sets import make

pytestmark = pytest.mark.lerobot

STEPS = 15
POLICY = {
    "type": "act",
    "device": "cpu",
    "push_to_hub": "false",
    "pretrained_backbone_weights": "null",  # they would be downloaded
    "dim_model": 64,
    "n_heads": 4,
    "dim_feedforward": 128,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 8,
    "chunk_size": 8,
    "n_action_steps": 8,
    "optimizer_lr": 1e-3,  # so that a few steps show something
    "optimizer_lr_backbone": 1e-4,
}
SETTINGS = {
    "dataset.repo_id": "tests/training",
    "dataset.video_backend": "pyav",
    **{f"policy.{name}": value for name, value in POLICY.items()},
    "steps": STEPS,
    "batch_size": 8,
    "num_workers": 0,
    "log_freq": 1,
    "save_checkpoint": "false",
    "wandb.enable": "false",
    "seed": 1,
}
# Else OpenMP's threads wait for each other busily, which on a machine with other work takes ten times as long.
THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}


def train(dataset: Path, folder: Path) -> tuple[list[float], str]:
    """The loss of each step, and all that was said."""
    flags = {**SETTINGS, "dataset.root": dataset, "output_dir": folder / "trained"}
    done = subprocess.run(
        [sys.executable, "-m", "lerobot.scripts.lerobot_train", *(f"--{name}={flags[name]}" for name in flags)],
        env={**os.environ, **THREADS},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    return [float(one) for one in re.findall(r" step:\d+ .* loss:(\S+)", said)], said


@pytest.mark.parametrize("kind", ["plain", "updated and compact"])
def test_a_policy_learns_from_a_merged_dataset(lerobot: ModuleType, tmp_path: Path, kind: str) -> None:
    if importlib.util.find_spec("accelerate") is None:
        pytest.skip("lerobot cannot train here: accelerate is not installed (pip install 'lerobot[training]')")
    merged = make(tmp_path, kind)
    losses, said = train(merged, tmp_path)
    assert f"dataset.num_frames={read_info(merged)['total_frames']}" in said
    assert len(losses) == STEPS, said[-3000:]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-5:]) / 5 < sum(losses[:3]) / 3 / 2, losses
