"""The stand-ins of `tests/fakes/comfyui` are those of this ComfyUI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_stand_ins_take_what_the_host_takes(comfyui: Path, repository: Path) -> None:
    script = Path(__file__).with_name("check_fakes.py")
    result = subprocess.run(
        [
            os.environ.get("COMFYUI_PYTHON", sys.executable),
            str(script),
            str(repository / "tests/fakes/comfyui"),
            str(comfyui),
        ],
        cwd=comfyui,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
