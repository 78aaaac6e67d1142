"""What a file of `torch.save` asks for, looked through before it is read: its readers believe every size they are told."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import torch
from torch.serialization import MAGIC_NUMBER

_LONGEST = 1 << 24  # bytes of a pickle or of a zip archive's directory; a state dict of a thousand tensors has 1 << 17
_MOST_STEPS = 500_000  # of a pickle; some 30 a tensor
_LARGEST_KEY = 2_000  # tuples within a tuple: the hash of a dict's key visits each, one within the other
_HUNGRY = {f"{module} bytearray" for module in ("builtins", "__builtin__")} | {"_codecs encode"}  # make much of little
_OTHER_STEPS = {"DUP", "POP", "POP_MARK"}  # which neither torch nor `pickle` writes for tensors
_MAGIC = pickle.dumps(MAGIC_NUMBER, protocol=2)

STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "UntypedStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
}


def open_archive(file: BinaryIO, size: int) -> tuple[zipfile.ZipFile, str]:
    """A zip archive that becomes no larger than its file, and the folder in it that holds data.pkl.

    Raises ValueError, or what `zipfile` and `pickletools` raise for damaged ones.
    """
    bounded = _Bounded(file, _LONGEST)
    archive = zipfile.ZipFile(bounded)
    bounded.longest = size
    names = archive.namelist()
    if len(set(names)) < len(names) or sum(info.file_size for info in archive.infolist()) > size:
        raise ValueError("its records are compressed or overlap, which torch never writes")
    (pickled,) = (name for name in names if name.endswith("/data.pkl"))
    if archive.getinfo(pickled).file_size > _LONGEST:
        raise ValueError("its description of the tensors is too long")
    folder = pickled[: -len("data.pkl")]
    for _, kind, key, _, count in _references(io.BytesIO(archive.read(pickled))):
        needed = count * STORAGES[kind.split()[-1]].itemsize
        if needed > archive.getinfo(f"{folder}data/{key}").file_size:  # torch 2.1 would read what lies behind
            raise ValueError(f"its storage {key} has fewer than {needed} bytes")
    return archive, folder


def require_legacy(file: BinaryIO) -> None:
    """Raises ValueError for what is no file of torch before 1.6: five pickles, then the storages."""
    head = io.BytesIO(file.read(_LONGEST))
    if not head.getvalue().startswith(_MAGIC):
        raise ValueError("it does not begin as a checkpoint does")
    for _ in ("magic number", "version", "byte order", "tensors", "storages"):
        _references(head)


class _Bounded:
    """A file out of which nothing longer is read at once: the sizes in a zip archive may lie."""

    def __init__(self, file: BinaryIO, longest: int) -> None:
        self._file, self.longest = file, longest
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(self.longest + 1 if count < 0 else min(count, self.longest + 1))
        if len(data) > self.longest:
            raise ValueError("its list of records is too long")
        return data


def _references(pickled: io.BytesIO) -> list[Sequence[Any]]:
    """The storages that the stream's next pickle refers to: "storage", class, key, place, count of numbers.

    Nothing is made of the pickle. Raises ValueError if its readers would take long, much memory, or more stack than a thread
    has. On the stack here lie a value's argument, and how many tuples stand in it.
    """
    stack: list[tuple[Any, int]] = []
    marks: list[int] = []
    memo: dict[int, tuple[Any, int]] = {}
    found: list[Sequence[Any]] = []
    argument: Any
    for step, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        name, takes = opcode.name, opcode.stack_before
        if step >= _MOST_STEPS:
            raise ValueError(f"it takes more than {_MOST_STEPS} steps")
        if opcode.proto > 2 or name in _OTHER_STEPS or argument in _HUNGRY:
            raise ValueError(f"it takes the step {name} {argument or ''}, which no checkpoint needs")
        if name == "MARK":
            marks.append(len(stack))
        elif name.endswith("PUT"):
            if argument >= _MOST_STEPS:
                raise ValueError("its memo is too large")
            memo[argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        else:
            marked = pickletools.markobject in takes
            first = marks.pop() - takes.index(pickletools.markobject) if marked else len(stack) - len(takes)
            taken, stack[first:] = stack[first:], []
            if name == "BINPERSID":
                found.append(_reference(taken[0][0]))
            if name in ("REDUCE", "NEWOBJ") and not isinstance(taken[0][0], str):
                raise ValueError("it calls what is no name")  # whose description may have no end
            tuples = 1 + sum(count for _, count in taken) if "TUPLE" in name or name == "BUILD" else 0
            if tuples > _LARGEST_KEY:
                raise ValueError("its tuples are nested too often")
            made = tuple(value for value, _ in taken) if "TUPLE" in name else argument
            stack += [(made, tuples)] * len(opcode.stack_after)
    return found


def _reference(value: Any) -> Sequence[Any]:
    if not isinstance(value, tuple) or [type(part) for part in value[:5]] != [str, str, str, str, int]:
        raise ValueError("it refers to what is no storage")
    return value[:5]
