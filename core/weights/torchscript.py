"""The tensors of a TorchScript archive (OpenAI's `ViT-L-14.pt`), read without running or compiling its code.

The archive's `data.pkl` describes a tree of module objects. Here its classes are replaced by empty ones that only keep
their attributes, and nothing but the rebuilding of tensors is understood; everything else in the pickle is refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from .guard import STORAGES

_DEEPEST = 100  # modules within modules


def is_torchscript(archive: zipfile.ZipFile, folder: str) -> bool:
    """Whether it brings code along."""
    names = archive.namelist()
    return f"{folder}constants.pkl" in names and any(name.startswith(f"{folder}code/") for name in names)


def read_torchscript(archive: zipfile.ZipFile, folder: str) -> dict[str, Tensor]:
    """Every tensor of the archive's modules by its dotted name; a shared module's once, under the first.

    Raises ValueError, or whatever `pickle` and torch raise, for what is more than tensors.
    """
    root = _Unpickler(archive, folder).load()
    if not isinstance(root, _Module):
        raise ValueError("it describes no module")
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    left: list[tuple[str, Any]] = [("", root)]
    while left:
        name, value = left.pop()
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, _Module) and id(value) not in seen:
            seen.add(id(value))
            if name.count(".") >= _DEEPEST:
                raise ValueError(f"its modules are nested more than {_DEEPEST} deep")
            inner = [
                (f"{name}.{key}" if name else str(key), each) for key, each in getattr(value, "attributes", {}).items()
            ]
            left += reversed(inner)
    return found


class _Module:
    """Stands in for every class of the archive: keeps the attributes it is given, does nothing."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _as_list(items: Any) -> list[Any]:
    return list(items)


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(folder + "data.pkl")))
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _rebuild
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name.startswith("build_") and name.endswith("list"):
            return _as_list
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, reference: Any) -> Tensor:
        _, dtype, key, _, count = reference
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._folder}data/{key}"))
            empty = torch.empty(0, dtype=dtype, device="cpu")
            self._storages[key] = torch.frombuffer(data, dtype=dtype, count=count) if count else empty
        return self._storages[key]
