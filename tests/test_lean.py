"""What a process that only records does without; each in a process of its own, as it holds for all of it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

needs_pandas = pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")

WRITES = """
import sys
import pyarrow as pa, pyarrow.parquet as pq
table = pa.Table.from_pylist([{"name": "a", "numbers": [1.5, 2.5]}])
pq.write_table(table, sys.argv[1])
assert pq.read_table(sys.argv[1]).to_pylist() == [{"name": "a", "numbers": [1.5, 2.5]}]
"""


def loaded(program: str, file: Path) -> str:
    """What the program prints at its end: whether pandas is among its modules."""
    program += 'print("pandas" in sys.modules)'
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_pandas
def test_pandas_stays_out(tmp_path: Path) -> None:
    lean = "from padreel.lean import leave_pandas_out\nleave_pandas_out()\n"
    assert loaded(lean + WRITES, tmp_path / "file") == "False"
    assert loaded(WRITES, tmp_path / "file") == "True", "pyarrow no longer imports it: lean.py can go"


@needs_pandas
def test_pandas_can_be_imported_by_who_wants_it(tmp_path: Path) -> None:
    program = "from padreel.lean import leave_pandas_out\nleave_pandas_out()\nimport sys, pandas\n"
    assert loaded(program, tmp_path / "file") == "True"
