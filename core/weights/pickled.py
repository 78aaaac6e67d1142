"""The files of `torch.save` and `torch.jit.save`: their tensors, in memory of their own, without running what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

import torch
from torch import Tensor

from .guard import open_archive, require_legacy
from .stored import StoredTensor
from .torchscript import is_torchscript, read_torchscript

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "params", "ema")
_SHARED = 4  # tensors may show a storage more than once (tied weights); all together not this many times the file


class NoStateDict(ValueError):
    """A whole file, of something else."""


def read_pickled(file: BinaryIO, size: int) -> dict[str, StoredTensor]:
    """The tensors of an opened file of that size. Raises NoStateDict, or any exception of its readers for damaged ones."""
    tensors = _load(file, size)
    for name, tensor in tensors.items():
        if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"{name} is no plain tensor")
    if sum(tensor.numel() * tensor.dtype.itemsize for tensor in tensors.values()) > _SHARED * size:
        raise ValueError("its tensors show the same numbers again and again")
    return {name: StoredTensor.of(tensor.detach()) for name, tensor in tensors.items()}


def _load(file: BinaryIO, size: int) -> dict[str, Tensor]:
    # Hosts replace `torch.load` by functions that return None or rename the file on errors; this one is torch's own.
    from torch.serialization import load

    is_archive = file.read(4) == b"PK\3\4"  # torch decides by the same bytes
    file.seek(0)
    if is_archive:
        archive, folder = open_archive(file, size)
        if is_torchscript(archive, folder):
            return read_torchscript(archive, folder)
    else:
        require_legacy(file)
    file.seek(0)
    return _state_dict(load(file, map_location="cpu", weights_only=True, mmap=False))


def _state_dict(loaded: object) -> dict[str, Tensor]:
    """The state dict inside what was loaded, out of the wrappers that trainers put around it."""
    for _ in range(3):
        if not isinstance(loaded, Mapping):
            break
        tensors = {name: t for name, t in loaded.items() if isinstance(name, str) and isinstance(t, Tensor)}
        if tensors:
            return tensors
        loaded = next((loaded[key] for key in _WRAPPERS if key in loaded), None)
    raise NoStateDict(f"holds no state dict (a mapping of names to tensors), but {type(loaded).__name__}")
