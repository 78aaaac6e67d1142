"""The contract of generators (tests/generator_contract.py) over ComfyUI's adapter, on real networks of every family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from generator_contract import CHECKS
from hosts.comfyui.process import run_script

KINDS = ("sd1", "sd2", "sdxl", "sd3", "flux")


@pytest.fixture(scope="module")
def errors(comfyui: Path) -> dict[tuple[str, str], str]:
    """What each check of each kind found; "" is nothing. One process of the host for all."""
    result = run_script(comfyui, "check_generator.py", str(comfyui), *KINDS)
    assert result.returncode == 0, result.stderr[-3000:]
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {(row["kind"], row["check"]): row["error"] for row in rows}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_comfyuis_adapter_keeps_the_contract(errors: dict[tuple[str, str], str], kind: str, check: str) -> None:
    assert errors[kind, check] == ""
