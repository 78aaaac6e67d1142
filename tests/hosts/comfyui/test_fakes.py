"""The stand-ins of `tests/fakes/comfyui` are those of this ComfyUI."""

from __future__ import annotations

from pathlib import Path

from hosts.comfyui.process import run_script


def test_the_stand_ins_take_what_the_host_takes(comfyui: Path, repository: Path) -> None:
    result = run_script(comfyui, "check_fakes.py", str(repository / "tests/fakes/comfyui"), str(comfyui))
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
