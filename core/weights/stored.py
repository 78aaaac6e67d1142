"""Tensors that lie in a file and are read one at a time, each into memory of its own.

Nothing is memory-mapped, and no file stays open: what is loaded survives whatever happens to its file (Linux ends a process
that reads a mapped file which was truncated; Windows replaces no file that somebody has mapped).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
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
    read: Callable[
        [], Tensor
    ]  # a tensor of its own at each call; raises UnknownCheckpoint if the file changed meanwhile

    def changed(self, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> StoredTensor:
        """What `change` makes of it once it is read, of this shape."""
        return StoredTensor(torch.Size(shape), self.dtype, lambda: change(self.read()))


class ReadTensors(Mapping[str, Tensor]):
    """Stored tensors by name; each is read at every look-up."""

    def __init__(self, stored: Mapping[str, StoredTensor]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> Tensor:
        return self._stored[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, name: object) -> bool:
        return name in self._stored


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
        data = torch.empty(count, dtype=torch.uint8)
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(offset)
                room = data.numpy().data
                while room and (got := file.readinto(room)):
                    room = room[got:]
                if len(room) == 0 and SourceFile.of(self.path, file) == self:
                    return data
        except OSError as error:
            raise unreadable(self.path, error) from error
        raise UnknownCheckpoint(f"{self.path} was changed while it was read; load it again")

    def stored(
        self, offset: int, dtype: torch.dtype, shape: tuple[int, ...], stride: tuple[int, ...] | None = None
    ) -> StoredTensor:
        """The tensor whose numbers begin at this byte. Raises ValueError for what does not lie within the file.

        stride: in numbers, as torch counts; None = one number after the other. Numbers that a tensor would show several
        times, as `expand` does, are refused: a small file must not become a large tensor.
        """
        count = 1
        for length in shape:
            count *= length
        span = count
        if stride is not None and count:
            span = 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
        size = span * dtype.itemsize
        if min(shape, default=0) < 0 or min(stride or (), default=0) < 0 or offset < 0 or offset + size > self.size:
            raise ValueError(f"a tensor of shape {shape} lies outside the file")
        if count > span:
            raise ValueError(f"a tensor of shape {shape} has {span} numbers")

        def read() -> Tensor:
            flat = self.read(offset, size).view(dtype)
            return flat.view(shape) if stride is None or not count else flat.as_strided(shape, stride)

        return StoredTensor(torch.Size(shape), dtype, read)
