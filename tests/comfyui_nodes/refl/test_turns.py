"""A device without room for all networks at once, on the stand-ins: the script that the host's tests run (test_turns there)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from comfyui_scenes import KINDS


def test_networks_that_take_turns_give_the_same_update(repository: Path, tmp_path: Path) -> None:
    tests = repository / "tests"
    script, host = tests / "hosts" / "comfyui" / "check_turns.py", tests / "fakes" / "comfyui"
    done = subprocess.run(
        [sys.executable, str(script), str(host), str(tmp_path), *KINDS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["kind"] for row in rows] == list(KINDS)
    for row in rows:
        assert row["together"] == {"scoring": [1, 1], "drawing": [1, 1]}, row["kind"]
        network, reward = row["in part"]["scoring"]
        assert network < 1, row["kind"]
        assert reward == 1, row["kind"]
        assert row["in part"]["drawing"][0] == 1, row["kind"]
        assert row["whole"] == {"scoring": [0, 1], "drawing": [1, 0]}, row["kind"]
        assert row["equal"], row["kind"]
        assert row["norm"] > 0, row["kind"]
        assert row["untouched"], row["kind"]
