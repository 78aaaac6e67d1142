"""Scripts of this folder in the host's own Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def host_python() -> str:
    return os.environ.get("COMFYUI_PYTHON", sys.executable)


def run_script(comfyui: Path, name: str, *arguments: str, seconds: int = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [host_python(), str(HERE / name), *arguments],
        cwd=comfyui,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
