"""Building a network: nothing is initialised that the checkpoint overwrites."""

from __future__ import annotations

from pathlib import Path

import torch
import warm
from sd_imagereward.core.networks.build import build
from torch import nn

SCRIPT = """
import torch
from sd_imagereward.core import load_scorer
before = set(sys.modules)
load_scorer(sys.argv[1], device='cpu')
print(*sorted(name for name in set(sys.modules) - before if name.startswith('torch.')))
"""


def test_it_holds_the_checkpoints_own_tensors_and_no_random_numbers_are_drawn() -> None:
    tensors = {"0.weight": torch.ones(3, 2), "1.weight": torch.ones(2, 2), "1.bias": torch.zeros(2)}
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    network = build(
        lambda: nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2)), tensors, torch.float32, torch.device("cpu")
    )
    assert torch.equal(torch.rand(1), expected)
    assert all(parameter.data_ptr() == tensors[name].data_ptr() for name, parameter in network.named_parameters())


def test_loading_does_not_import_the_compiler(tiny_checkpoint: Path) -> None:
    """`normal_` on the meta device imports torch._dynamo: seconds, for nothing."""
    done = warm.run(SCRIPT, tiny_checkpoint)
    assert done.returncode == 0, done.stderr
    assert "torch._dynamo" not in done.stdout.split()
