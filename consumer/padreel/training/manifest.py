"""`export_manifest.json`: what a merged dataset was made of, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MANIFEST: Final = Path("export_manifest.json")
