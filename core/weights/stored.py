"""Tensors that a file holds, read or still to be read, each in memory of its own.

Nothing is memory-mapped, and no file stays open: what is loaded survives whatever happens to its file (Linux ends a process
that reads a mapped file which was truncated; Windows replaces no file that somebody has mapped).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..errors import UnknownCheckpoint
from .unreadable import unreadable


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's shape and dtype, which cost nothing, and the way to its numbers."""

    shape: torch.Size
    dtype: torch.dtype
    read: Callable[[], Tensor]  # on the CPU; raises UnknownCheckpoint if the file changed meanwhile

    @classmethod
    def of(cls, tensor: Tensor) -> StoredTensor:
        """One that is in memory."""
        return cls(tensor.shape, tensor.dtype, lambda: tensor)

    def changed(self, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> StoredTensor:
        """What `change` makes of it once it is read, of this shape."""
        return StoredTensor(torch.Size(shape), self.dtype, lambda: change(self.read()))


@dataclass(frozen=True)
class SourceFile:
    """A file in the state that it was first seen in. It is opened for each reading alone."""

    path: Path
    size: int
    modified: int  # nanoseconds

    @classmethod
    def of(cls, path: Path, file: BinaryIO) -> SourceFile:
        """file: `path`, opened."""
        stat = os.fstat(file.fileno())
        return cls(path, stat.st_size, stat.st_mtime_ns)

    def read(self, offset: int, count: int) -> Tensor:
        """(count,) uint8. Raises UnknownCheckpoint when the file is not what it was."""
        data = torch.empty(count, dtype=torch.uint8, device="cpu")
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(offset)
                room = data.numpy().data
                while room and (got := file.readinto(room)):
                    room = room[got:]
                if len(room) == 0 and self.unchanged(file):
                    return data
        except OSError as error:
            raise unreadable(self.path, error) from error
        raise UnknownCheckpoint(f"{self.path} was changed while it was read; load it again")

    def unchanged(self, file: BinaryIO) -> bool:
        """Whether `file`, which is this one opened, is what it was."""
        return SourceFile.of(self.path, file) == self
