"""Two processes give the update that one process with twice the batch gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes


def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason='accelerate is not installed (pip install -e ".[refl]")')
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [two_processes.__file__, str(tmp_path / "pair.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([*command, *script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):  # threads of a group that outlives the interpreter may abort it
        assert json.loads((tmp_path / f"pair.pt.{rank}").read_text()) == {"group": False, "threads": 0}
    pair = torch.load(tmp_path / "pair.pt", weights_only=True)
    whole = two_processes.train(2, None)
    assert pair["world"] == 2
    assert pair["rewards"] == pytest.approx(whole["rewards"], rel=1e-5)
    for one, other in zip(pair["evaluations"], whole["evaluations"], strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for name, tensor in whole["tensors"].items():
        torch.testing.assert_close(pair["tensors"][name], tensor, rtol=1e-4, atol=1e-6)
