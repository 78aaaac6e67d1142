"""One ReFL update of SD1, in ComfyUI's adapter and in that of diffusers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hosts.comfyui.process import run_script


def test_both_adapters_give_the_same_update(comfyui: Path, tmp_path: Path) -> None:
    """Equal weights, noise and conditioning: the loss to 1e-6, the LoRA's gradient to 1e-4 of its length."""
    result = run_script(comfyui, "check_update.py", str(comfyui), str(tmp_path))
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    if "missing" in found:
        pytest.skip(f"COMFYUI_PYTHON has no diffusers ({found['missing']}): pip install diffusers transformers there")
    ours, theirs = found["losses"]
    assert found["same"]
    assert found["norm"] > 0
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert found["apart"] < 1e-4
