"""A process that is forked off while another thread scores can score, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import os, signal, sys, threading, time
sys.path.insert(0, 'tests')
import conftest
import torch
from sd_imagereward.core import load_scorer

torch.set_num_threads(2)
scorer = load_scorer(sys.argv[1], device='cpu', dtype='fp32')
pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
expected = scorer.score(pixels, ['cat', 'dog'])

def score_for_ever():
    while True:
        scorer.score(torch.rand(2, 3, 224, 224), ['cat', 'dog'])

threading.Thread(target=score_for_ever, daemon=True).start()
hung = wrong = 0
for number in range(8):
    time.sleep(0.01 * number)
    child = os.fork()
    if child == 0:
        same = load_scorer(sys.argv[1], device='cpu', dtype='fp32') is scorer
        close = torch.allclose(scorer.score(pixels, ['cat', 'dog']), expected, atol=1e-5)
        os._exit(0 if same and close else 1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            wrong += status != 0
            break
        time.sleep(0.01)
    else:
        hung += 1
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        break
print(hung, wrong, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
def test_a_child_of_a_process_that_scores_scores(tiny_checkpoint: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tiny_checkpoint)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["0", "0"], done.stderr
