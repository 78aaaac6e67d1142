"""What is loaded survives whatever happens to its file, and holds nobody from changing it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
import warm
from checkpoint_layouts import LAYOUTS, write_layout
from safetensors.torch import save_file
from sd_imagereward.core.errors import UnknownCheckpoint
from sd_imagereward.core.refl.lora_files import read_lora
from sd_imagereward.core.weights.read import read_checkpoint

# A process of its own: were the file mapped, it would end by a signal.
SCRIPT = """
import os, torch
from sd_imagereward.core import load_scorer, score_images
from sd_imagereward.core.preference.reward_model import export, load_base
from pathlib import Path

path, new = Path(sys.argv[1]), None
pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

def score():
    for cache in scorer.feature_caches():
        cache.clear()
    return float(scorer.score(pixels, ['a cat']))

scorer = load_scorer(path, device='cpu')
base = load_base(str(path), torch.device('cpu')) if path.name.startswith('ImageReward') else None
before = score()
if sys.platform.startswith('linux'):
    assert path.name not in open('/proc/self/maps').read()
    assert path.name not in ' '.join(os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd'))
size = path.stat().st_size
with open(path, 'r+b') as file:  # overwritten in place
    file.write(b'x' * size)
assert score() == before
os.truncate(path, 100)
assert score() == before
path.unlink()
assert score() == before
path.write_bytes(b'another file')
assert score() == before
if base is not None:
    export(base, path.parent, {})
print('survived')
"""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_loaded_scorer_survives_what_happens_to_its_file(tmp_path: Path, layout: str) -> None:
    path = write_layout(layout, tmp_path)
    done = warm.run(SCRIPT, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "survived"


def test_a_file_that_changes_between_two_tensors_is_said_to_have_changed(tmp_path: Path) -> None:
    path = write_layout("safetensors", tmp_path)
    tensor = next(iter(read_checkpoint(path).tensors.values()))
    first = tensor.read()
    assert torch.equal(tensor.read(), first)
    assert tensor.read().data_ptr() != first.data_ptr()  # memory of its own
    os.utime(path, ns=(0, 0))
    with pytest.raises(UnknownCheckpoint, match="was changed while it was read"):
        tensor.read()
    path.unlink()
    with pytest.raises(UnknownCheckpoint, match="cannot be read"):
        tensor.read()


def test_a_file_that_is_cut_while_it_is_read_raises_the_projects_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({f"{i}": torch.full((1 << 18,), float(i)) for i in range(8)}, path)
    whole = path.read_bytes()
    stop = threading.Event()

    def cut() -> None:
        while not stop.is_set():
            os.truncate(path, len(whole) // 2)
            path.write_bytes(whole)

    thread = threading.Thread(target=cut)
    thread.start()
    errors = 0
    try:
        for _ in range(100):
            try:
                read_checkpoint(path).read()
            except UnknownCheckpoint:
                errors += 1
    finally:
        stop.set()
        thread.join()
    assert errors > 0


def test_a_lora_is_in_memory_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({"lora_unet_x.alpha": torch.tensor(4.0)}, path, metadata={"ss_network_dim": "4"})
    lora = read_lora(path)
    os.truncate(path, 0)
    assert float(lora.tensors["lora_unet_x.alpha"]) == 4.0
    assert lora.metadata == {"ss_network_dim": "4"}


def test_nothing_in_the_repository_maps_a_file(repository: Path) -> None:
    """`safe_open` and `load_file` of safetensors, and `torch.load(mmap=True)`: `read_checkpoint` stands for all of them."""
    rooms = ("core", "comfyui_nodes", "sdwebui_extension", "scripts", "benchmarks", "examples")
    files = [path for room in rooms for path in (repository / room).rglob("*.py")]
    signs = ("safe_open", "load_file(", "mmap=True", "import mmap", "memmap")
    allowed = {("benchmarks", "scorers.py")}
    found = [
        f"{path.relative_to(repository)}: {sign}"
        for path in files
        for sign in signs
        if sign in path.read_text(encoding="utf-8") and (path.parent.name, path.name) not in allowed
    ]
    assert files
    assert not found
