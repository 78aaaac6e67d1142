"""This checkout as the package `sd_imagereward`, installed or not; what the tests make checkpoints with comes along."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from mounting import mount_package as mount  # noqa: E402, F401 (found through the path above)
