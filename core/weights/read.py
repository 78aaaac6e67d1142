"""Reading a checkpoint file: never executed, never altered, never mapped into memory, and open only while it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from ..errors import UnknownCheckpoint
from .pickled import NoStateDict, read_pickled
from .safe import is_safetensors, read_header_metadata, read_safetensors
from .stored import SourceFile, StoredTensor
from .unreadable import reason_of, says_nothing_of_the_file, unreadable

_SAFE_SUFFIXES = (".safetensors", ".sft")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file by name, and the text metadata that came along (safetensors only)."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None

    def read(self) -> dict[str, Tensor]:
        """All tensors themselves, on the CPU."""
        return {name: tensor.read() for name, tensor in self.tensors.items()}

    def below(self, prefix: str) -> dict[str, StoredTensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name[len(prefix) :]: t for name, t in self.tensors.items() if name.startswith(prefix)}

    def prefix_of(self, name: str) -> str | None:
        """What stands before `name` in the tensors' names ("" or "module." ...), None if no name ends so."""
        for candidate in self.tensors:
            if candidate == name or candidate.endswith("." + name):
                return candidate[: len(candidate) - len(name)]
        return None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """What a safetensors file, a PyTorch state dict or a TorchScript archive holds.

    Of safetensors a tensor is read when it is asked for; the other formats are read at once, with torch's `weights_only`.
    Raises UnknownCheckpoint for what is truncated, holds code, or is no checkpoint at all; the file is never touched.
    """
    path = Path(path)
    if not path.is_file():
        raise UnknownCheckpoint(
            f"expected a checkpoint file, found {'a folder' if path.is_dir() else 'nothing'} at {path}"
        )
    try:
        with open(path, "rb") as file:
            return _read(file, SourceFile.of(path, file))
    except (OSError, MemoryError) as error:
        raise unreadable(path, error) from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text metadata in a safetensors file's header; {} for other files. Reads no tensor."""
    try:
        with open(path, "rb") as file:
            return read_header_metadata(file, Path(path).stat().st_size)
    except (OSError, ValueError, RecursionError):
        return {}


def _read(file: BinaryIO, source: SourceFile) -> Checkpoint:
    head = file.read(9)
    file.seek(0)
    # What the readers raise for damaged bytes differs between versions of them and of Python: hence all exceptions.
    if source.path.suffix.lower() in _SAFE_SUFFIXES or is_safetensors(head, source.size):
        try:
            return Checkpoint(*read_safetensors(file, source), source.path)
        except Exception as error:
            _pass_on(error)
            raise UnknownCheckpoint(
                f"{source.path} is not a whole safetensors file ({reason_of(error)}); download it again"
            ) from error
    try:
        checkpoint = Checkpoint(read_pickled(file, source.size), {}, source.path)
    except NoStateDict as error:
        raise UnknownCheckpoint(f"{source.path} {error}") from error
    except Exception as error:
        _pass_on(error)
        raise UnknownCheckpoint(
            f"{source.path} cannot be read as a PyTorch state dict or TorchScript archive: it is truncated, of another "
            f"format, or holds code, which is never run ({reason_of(error)}). Download it again, or take its safetensors "
            f"version from the Hub."
        ) from error
    if not source.unchanged(file):
        raise UnknownCheckpoint(f"{source.path} was changed while it was read; load it again")
    return checkpoint


def _pass_on(error: Exception) -> None:
    """What the system said, of a file that may well be whole."""
    if says_nothing_of_the_file(error):
        raise error
