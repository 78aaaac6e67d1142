from __future__ import annotations

import os
import pickle
import re
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sd_imagereward.core.errors import UnknownCheckpoint
from sd_imagereward.core.weights.read import read_checkpoint, read_metadata

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}


class Payload:
    """Creates a file when it is unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os.system, (f"touch {self.target}",))


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t}, lambda t: {"model": t, "epoch": 3}])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_are_read_out_of_their_wrappers(tmp_path: Path, wrap, zipped: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save(wrap(TENSORS), path, _use_new_zipfile_serialization=zipped)
    tensors = read_checkpoint(path).read()
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.float8_e4m3fn else tensor  # which has no comparison


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_every_kind_come_out_as_torch_reads_them(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.pt"
    base = torch.arange(24.0).reshape(4, 6)
    dtypes = (
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
        "complex64",
    )
    tensors = {name: torch.arange(3).to(getattr(torch, name)) for name in dtypes}
    tensors |= {
        "view": base[1:3, 2:],
        "turned": base.T,
        "every": base[:, ::2],
        "tied": base,
        "empty": torch.empty(0, 3),
    }
    tensors |= {"number": torch.tensor(7.0), "parameter": torch.nn.Parameter(torch.ones(2))}
    if zipped and hasattr(torch, "uint16"):  # torch before 2.3 cannot save it
        tensors["float8"] = torch.arange(3.0).to(torch.float8_e4m3fn)
    torch.save(OrderedDict(tensors), path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    read = checkpoint.read()
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        assert checkpoint.tensors[name].shape == read[name].shape == tensor.shape
        assert checkpoint.tensors[name].dtype == read[name].dtype == tensor.dtype
        assert torch.equal(_comparable(read[name]), _comparable(tensor)), name


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_safetensors_are_known_by_content_and_bring_metadata(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_file(TENSORS, path, metadata={"dtype": "fp32"})
    checkpoint = read_checkpoint(path)
    assert torch.equal(checkpoint.tensors["b"].read(), TENSORS["b"])
    assert checkpoint.metadata == {"dtype": "fp32"} == read_metadata(path)


ADVICE = re.compile("weights_only|add_safe_globals|Weights only")  # to run what a file holds


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_with_another_class_names_it_without_advice_to_trust_it(tmp_path: Path, old_format: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": TENSORS["b"], "args": Namespace()}, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(UnknownCheckpoint, match=r"it asks for argparse\.Namespace, which is no tensor") as refused:
        read_checkpoint(path)
    assert not ADVICE.search(str(refused.value))


def test_a_pickle_with_code_is_neither_run_nor_touched(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    path = tmp_path / "evil.pt"
    torch.save({"a": TENSORS["b"], "x": Payload(trap)}, path)
    before = path.read_bytes()
    with pytest.raises(UnknownCheckpoint, match="holds code, which is never run") as refused:
        read_checkpoint(path)
    assert "it asks for " in str(refused.value)
    assert not ADVICE.search(str(refused.value))
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Payload(trap)))
    with pytest.raises(UnknownCheckpoint):
        read_checkpoint(tmp_path / "plain.pt")
    assert not trap.exists()
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.pt", "plain.pt"]


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_truncated_file_is_said_to_be_one(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / f"model.{kind}"
    if kind == "pt":
        torch.save(TENSORS, path)
    else:
        save_file(TENSORS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(UnknownCheckpoint, match=path.name):
        read_checkpoint(path)


def test_a_torchscript_archive_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "ViT.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ViT/code/__torch__.py", "x = 1")
        archive.writestr("ViT/constants.pkl", b"\x80\x02).")
        archive.writestr("ViT/data.pkl", b"\x80\x02).")
    with pytest.raises(UnknownCheckpoint, match=r"TorchScript.*from the Hub"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, "text"])
def test_what_holds_no_tensors_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(UnknownCheckpoint, match="holds no state dict"):
        read_checkpoint(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownCheckpoint, match=r"found nothing at .*none\.pt"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(UnknownCheckpoint, match="found a folder"):
        read_checkpoint(tmp_path)


def test_a_host_that_replaces_torch_load_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    torch.save(TENSORS, path)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: None)
    assert read_checkpoint(path).tensors.keys() == TENSORS.keys()
