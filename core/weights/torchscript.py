"""The tensors of a TorchScript archive (OpenAI's `ViT-L-14.pt`), read without running or compiling its code.

The archive's `data.pkl` describes a tree of module objects. Here its classes are replaced by empty ones that only keep
their attributes, and nothing but the rebuilding of tensors is understood; everything else in the pickle is refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UnknownCheckpoint

_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether a zip file is a TorchScript archive: it brings code along."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Every tensor of the archive's modules by its dotted name. Raises UnknownCheckpoint for what is more than tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            root = _Unpickler(archive, name[: -len("data.pkl")]).load()
        if not isinstance(root, _Module):
            raise ValueError("it describes no module")
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        StopIteration,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        RuntimeError,
    ) as error:
        raise UnknownCheckpoint(
            f"{path} is a TorchScript archive that holds more than tensors, or is damaged ({error}); "
            f"take the model's safetensors or state-dict version from the Hub instead"
        ) from error
    return dict(_tensors_of(root, ""))


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
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name.startswith("build_") and name.endswith("list"):
            return _as_list
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, reference: Any) -> Tensor:
        kind, dtype, key, _device, count = reference
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"it refers to {kind!r}")
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._folder}data/{key}"))
            self._storages[key] = (
                torch.frombuffer(data, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]


def _tensors_of(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, _Module):
        for key, inner in value.attributes.items():
            yield from _tensors_of(inner, f"{name}.{key}" if name else str(key))
