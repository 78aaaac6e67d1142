"""Reading a checkpoint file: memory-mapped, never executed, never altered."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..errors import UnknownCheckpoint
from .torchscript import is_torchscript, read_torchscript

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "params", "ema")
_SAFE_SUFFIXES = (".safetensors", ".sft")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file by name, and the text metadata that came along (safetensors only)."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name[len(prefix) :]: t for name, t in self.tensors.items() if name.startswith(prefix)}

    def prefix_of(self, name: str) -> str | None:
        """What stands before `name` in the tensors' names ("" or "module." ...), None if no name ends so."""
        for candidate in self.tensors:
            if candidate == name or candidate.endswith("." + name):
                return candidate[: len(candidate) - len(name)]
        return None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """A safetensors file or a PyTorch state dict as tensors on the CPU, memory-mapped where the format allows.

    Pickles are read with `weights_only=True`, of TorchScript archives the tensors alone. Raises UnknownCheckpoint for what
    is truncated, holds code, or is no checkpoint at all; the file is never touched.
    """
    path = Path(path)
    if not path.is_file():
        raise UnknownCheckpoint(
            f"expected a checkpoint file, found {'a folder' if path.is_dir() else 'nothing'} at {path}"
        )
    if path.suffix.lower() in _SAFE_SUFFIXES or _looks_like_safetensors(path):
        return _read_safetensors(path)
    return _read_torch(path)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text metadata in a safetensors file's header; {} for other files. Reads no tensor."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > 100_000_000:
                return {}
            return dict(json.loads(file.read(length)).get("__metadata__", {}))
    except (OSError, ValueError, AttributeError):
        return {}


def _looks_like_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
        return Checkpoint(load_file(path), metadata, path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UnknownCheckpoint(f"{path} is not a whole safetensors file ({error}); download it again") from error


def _read_torch(path: Path) -> Checkpoint:
    # Hosts replace `torch.load` by functions that return None or rename the file on errors; this one is torch's own.
    # torch 2.1 maps a file into memory only when its name is a str.
    from torch.serialization import load

    is_zip = zipfile.is_zipfile(path)
    if is_zip and is_torchscript(path):
        return Checkpoint(read_torchscript(path), {}, path)
    try:
        loaded = load(str(path), map_location="cpu", weights_only=True, mmap=is_zip)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        OSError,
        KeyError,
        io.UnsupportedOperation,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnknownCheckpoint(
            f"{path} cannot be read as a plain PyTorch checkpoint: it is truncated, of another format, or holds code, "
            f"which is never run ({reason}). Download it again, or use its safetensors version."
        ) from error
    return Checkpoint(_tensors_of(loaded, path), {}, path)


def _tensors_of(loaded: object, path: Path) -> dict[str, Tensor]:
    """The state dict inside what was loaded, out of the wrappers that trainers put around it."""
    for _ in range(3):
        if not isinstance(loaded, Mapping):
            break
        tensors = {name: t for name, t in loaded.items() if isinstance(name, str) and isinstance(t, Tensor)}
        if tensors:
            return tensors
        loaded = next((loaded[key] for key in _WRAPPERS if key in loaded), None)
    raise UnknownCheckpoint(f"{path} holds no state dict (a mapping of names to tensors), but {type(loaded).__name__}")
