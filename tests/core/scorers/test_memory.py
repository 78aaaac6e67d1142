"""What loading and unloading cost, read off the process itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import checkpoints
import pytest

ROOT = Path(__file__).resolve().parents[3]
WIDE = {"vision_width": 768, "vision_depth": 8, "text_width": 512, "text_depth": 4}
SCRIPT = """
import gc, json, os, sys
sys.path.insert(0, 'tests')
import conftest
from sd_imagereward.core import load_scorer, score_images
import numpy as np

def private():  # bytes of this process that are not pages of a file
    statm = open('/proc/self/statm').read().split()
    return (int(statm[1]) - int(statm[2])) * os.sysconf('SC_PAGE_SIZE')

def highest():
    return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) << 10

def forget_highest():
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')
    return highest()

picture = np.zeros((64, 64, 3), np.uint8)
warm = load_scorer(sys.argv[1], device='cpu'); score_images(warm, picture, 'cat').total; warm.unload(); del warm
gc.collect(); before = private(); lowest = forget_highest()
scorer = load_scorer(sys.argv[1], device='cpu', dtype='bf16')
peak = highest() - lowest
score_images(scorer, picture, 'cat').total
size = scorer.memory(); loaded = private() - before
scorer.unload(); gc.collect(); after = private() - before
lowest = forget_highest()
whole = load_scorer(sys.argv[1], device='cpu', dtype='fp32')
print(json.dumps({'size': size, 'loaded': loaded, 'peak': peak, 'after': after, 'peak_fp32': highest() - lowest}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    # A safetensors file is never in memory as a whole; torch reads its own files at once.
    ("file_format", "of_the_file"),
    [("safetensors", 0.0), ("pt", 1.0)],
)
def test_loading_takes_the_networks_own_memory_and_unload_gives_it_back(
    tmp_path: Path, file_format: str, of_the_file: float
) -> None:
    path = checkpoints.write_imagereward(tmp_path, format=file_format, **WIDE)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["size"] > 100e6
    assert told["loaded"] > 0.9 * told["size"]
    assert told["after"] < 0.25 * told["size"]
    assert told["peak"] < 1.6 * told["size"] + of_the_file * 2 * told["size"]  # bf16 out of a file of fp32
    assert told["peak_fp32"] < 1.1 * 2 * told["size"]
