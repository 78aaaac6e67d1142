"""A device without room for all networks at once: they take turns in each update, and the update stays the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hosts.comfyui.process import run_script

KINDS = ("sd1", "sd2", "sdxl", "sd3", "flux")


@pytest.fixture(scope="module")
def found(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of each kind; one process of the host for all."""
    result = run_script(comfyui, "check_turns.py", str(comfyui), str(tmp_path_factory.mktemp("turns")), *KINDS)
    assert result.returncode == 0, result.stderr[-3000:]
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {row["kind"]: row for row in rows}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_that_take_turns_give_the_same_update(found: dict[str, dict[str, Any]], kind: str) -> None:
    one = found[kind]
    assert one["together"] == {"scoring": [1, 1], "drawing": [1, 1]}  # the network's share of the device, the reward's
    network, reward = one["in part"]["scoring"]
    assert network < 1
    assert reward == 1
    assert one["in part"]["drawing"][0] == 1
    assert one["whole"] == {"scoring": [0, 1], "drawing": [1, 0]}
    assert one["equal"]
    assert one["norm"] > 0
    assert one["untouched"]
