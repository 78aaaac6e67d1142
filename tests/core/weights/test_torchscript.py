"""TorchScript archives: the tensors come out, the code stays where it is."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from sd_imagereward.core.errors import UnknownCheckpoint
from sd_imagereward.core.weights.read import read_checkpoint
from torch import nn


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Linear(3, 5).half())
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.register_buffer("steps", torch.arange(6).reshape(2, 3))
        self.context = 77

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.visual[0](x) * self.scale


def test_every_tensor_of_a_real_archive(tmp_path: Path):
    model = Model()
    torch.jit.script(model).save(str(tmp_path / "model.pt"))
    tensors = read_checkpoint(tmp_path / "model.pt").read()
    expected = model.state_dict()
    assert set(expected) <= set(tensors)
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os.system, (f"touch {self.target}",))


def test_code_in_the_pickle_is_never_run(tmp_path: Path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/code/__torch__.py", "x = 1")
        archive.writestr("model/constants.pkl", b"\x80\x02).")
        archive.writestr("model/data.pkl", pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(UnknownCheckpoint, match="holds code, which is never run"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()
