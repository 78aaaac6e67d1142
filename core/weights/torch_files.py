"""The files of `torch.save` and `torch.jit.save`, read without a memory map and without running what they ask for.

Three layouts: a zip archive of a pickle and one record a storage; a TorchScript archive, which is the same with code beside
and a tree of module objects in the pickle (OpenAI's `ViT-L-14.pt`); and before torch 1.6 five pickles, then the storages.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import torch

from .plain_pickle import LONGEST, Made, Name, Persistent, read_pickle
from .stored import SourceFile, StoredTensor

_MAGIC = 0x1950A86A20F9469CFC6C  # how the oldest layout begins
_LONGEST_DIRECTORY = (
    1 << 23
)  # bytes of a zip archive's list of records; one of a thousand tensors has a tenth of a million
_SHARED = 4  # tensors may show a storage more than once (tied weights); all together not this many times the file
_DEEPEST = 100  # modules within modules
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "params", "ema")

_STORAGES = {
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
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_HARMLESS = {
    *(("torch._utils", name) for name in (*_TENSORS, *_PARAMETERS)),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.nn.parameter", "Parameter"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "Counter"),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("set", "dict", "int", "float", "complex")),
    ("_codecs", "encode"),
}


class _Record(NamedTuple):
    """Where a storage's bytes lie in the file."""

    offset: int
    size: int


Storages = Callable[[str], _Record]


def read_zip(file: BinaryIO, source: SourceFile) -> dict[str, StoredTensor]:
    """The tensors of a zip archive. Raises ValueError and what `zipfile` and the pickle's reader raise for damaged ones."""
    with zipfile.ZipFile(_Guarded(file, source.size)) as archive:
        records = {info.filename: info for info in archive.infolist()}
        pickled = next((name for name in records if name.endswith("/data.pkl")), None)
        if pickled is None:
            raise ValueError("the archive holds no data.pkl")
        with archive.open(pickled) as stream:
            content = stream.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise ValueError("its description of the tensors is too long")
    folder = pickled[: -len("data.pkl")]
    root = read_pickle(io.BytesIO(content), _may_name)

    def find(key: str) -> _Record:
        return _locate(file, records[f"{folder}data/{key}"])

    is_script = f"{folder}constants.pkl" in records and any(name.startswith(f"{folder}code/") for name in records)
    return _stored(_script_tensors(root) if is_script else _state_dict(root), find, source)


def read_legacy(file: BinaryIO, source: SourceFile) -> dict[str, StoredTensor]:
    """The tensors of a file from before torch 1.6. Raises ValueError and what the pickle's reader raises for others."""
    stream = io.BytesIO(file.read(LONGEST))
    if read_pickle(stream, _may_name) != _MAGIC:
        raise ValueError("it does not begin as a checkpoint does")
    for _ in ("version", "byte order and sizes"):
        read_pickle(stream, _may_name)
    root = read_pickle(stream, _may_name)
    keys = read_pickle(stream, _may_name)
    sizes = {reference[2]: _dtype_of(reference[1]).itemsize for reference in _references(root)}
    storages: dict[str, _Record] = {}
    offset = stream.tell()
    for key in keys:  # each with the count of its numbers before it
        file.seek(offset)
        size = int.from_bytes(file.read(8), "little") * sizes[key]
        storages[key] = _Record(offset + 8, size)
        offset += 8 + size
    return _stored(_state_dict(root), storages.__getitem__, source)


def _may_name(name: Name) -> bool:
    if (name.module, name.name) in _HARMLESS:
        return True
    if name.module in ("torch", "torch.storage"):
        return name.name in _STORAGES or isinstance(getattr(torch, name.name, None), torch.dtype)
    is_list = name.module == "torch.jit._pickle" and name.name.startswith("build_") and name.name.endswith("list")
    return is_list or name.module.split(".")[0] == "__torch__"


class _Guarded:
    """A file out of which nothing large is read at once: the sizes in a zip archive may lie."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._file.tell())
        count = left if count < 0 else min(count, left)
        if count > _LONGEST_DIRECTORY:
            raise ValueError("its list of records is too long")
        return self._file.read(count)


def _locate(file: BinaryIO, info: zipfile.ZipInfo) -> _Record:
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{info.filename} is compressed or encrypted, which torch never writes")
    file.seek(info.header_offset)
    head = file.read(30)  # of the record: its name and an extra field follow, as long as the last four bytes say
    if head[:4] != b"PK\3\4":
        raise ValueError(f"{info.filename} is not where the archive says")
    lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    return _Record(info.header_offset + len(head) + lengths, info.file_size)


# -- which tensors ---------------------------------------------------------------------------------------------------


def _state_dict(loaded: Any) -> dict[str, Made]:
    """The state dict inside what was loaded, out of the wrappers that trainers put around it."""
    for _ in range(3):
        items = _items_of(loaded)
        if items is None:
            break
        tensors = {name: value for name, value in items.items() if isinstance(name, str) and _is_tensor(value)}
        if tensors:
            return tensors
        loaded = next((items[key] for key in _WRAPPERS if key in items), None)
    what = loaded.what if isinstance(loaded, Made) else type(loaded).__name__
    raise NoStateDict(f"holds no state dict (a mapping of names to tensors), but {what}")


class NoStateDict(ValueError):
    """A whole file, of something else."""


def _items_of(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Made):
        return value.items if value.what.module == "collections" else None
    return value if isinstance(value, dict) else None


def _script_tensors(root: Any) -> dict[str, Made]:
    """Every tensor of a TorchScript archive's modules by its dotted name; a shared module once, under its first name."""
    if not isinstance(root, Made):
        raise ValueError("it describes no module")
    found: dict[str, Made] = {}
    seen: set[int] = set()
    left: list[tuple[str, Made]] = [("", root)]
    while left:
        name, value = left.pop()
        if _is_tensor(value):
            found[name] = value
        elif id(value) not in seen and isinstance(value.state, dict):
            seen.add(id(value))
            if name.count(".") >= _DEEPEST:
                raise ValueError(f"its modules are nested more than {_DEEPEST} deep")
            inner = [(f"{name}.{key}" if name else str(key), made) for key, made in value.state.items()]
            left += [(key, made) for key, made in reversed(inner) if isinstance(made, Made)]
    return found


# -- one tensor ------------------------------------------------------------------------------------------------------


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Made) and _rebuilt(value).name in _TENSORS


def _rebuilt(made: Made) -> Name:
    return _unwrapped(made).what


def _unwrapped(made: Made) -> Made:
    """The tensor inside a parameter, or inside a tensor with attributes."""
    for _ in range(3):
        inner = made
        if made.what.name in _PARAMETERS and isinstance(made.arguments, tuple) and made.arguments:
            inner = made.arguments[0]
        elif (
            made.what.name == "_rebuild_from_type_v2" and isinstance(made.arguments, tuple) and len(made.arguments) > 2
        ):
            inner = Made(made.arguments[0], made.arguments[2])
        if inner is made or not isinstance(inner, Made) or not isinstance(inner.what, Name):
            break
        made = inner
    return made


def _stored(tensors: Mapping[str, Made], find: Storages, source: SourceFile) -> dict[str, StoredTensor]:
    stored = {name: _tensor(_unwrapped(made), find, source) for name, made in tensors.items()}
    if sum(t.shape.numel() * t.dtype.itemsize for t in stored.values()) > _SHARED * source.size:
        raise ValueError("its tensors show the same numbers again and again")
    return stored


def _tensor(made: Made, find: Storages, source: SourceFile) -> StoredTensor:
    storage, offset, size, stride, *rest = made.arguments
    if not isinstance(storage, Persistent):
        raise ValueError("a tensor without a storage")
    kind, name, key, _place, _count, *view = storage.reference
    if kind != "storage" or any(part is not None for part in view):
        raise ValueError(f"a tensor refers to {kind!r}")
    dtype = _dtype_of(rest[2]) if made.what.name == "_rebuild_tensor_v3" else _dtype_of(name)
    shape, steps = _whole_numbers(size), _whole_numbers(stride)
    record = find(key)
    (first,) = _whole_numbers((offset,))
    tensor = source.stored(record.offset + first * dtype.itemsize, dtype, shape, _plain(shape, steps))
    span = tensor.shape.numel() and 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if (first + span) * dtype.itemsize > record.size:
        raise ValueError(f"a tensor of shape {shape} is larger than what it is made of")
    return tensor


def _plain(shape: tuple[int, ...], steps: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides, None if they are those of one number after the other."""
    expected = 1
    for length, step in zip(reversed(shape), reversed(steps), strict=True):
        if length != 1 and step != expected:
            return steps
        expected *= length
    return None


def _dtype_of(name: Any) -> torch.dtype:
    """Of a storage's class, or of a dtype by its own name."""
    if isinstance(name, Name):
        found = _STORAGES.get(name.name) or getattr(torch, name.name, None)
        if isinstance(found, torch.dtype):
            return found
    raise ValueError(f"{name} is no dtype")


def _whole_numbers(values: Any) -> tuple[int, ...]:
    if isinstance(values, Made):  # torch.Size
        (values,) = values.arguments
    if not isinstance(values, (tuple, list)) or not all(type(value) is int and value >= 0 for value in values):
        raise ValueError("a tensor's sizes are no whole numbers")
    return tuple(values)


def _references(root: Any) -> Iterator[tuple[Any, ...]]:
    """Every storage that is referred to anywhere."""
    seen: set[int] = set()
    left = [root]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Persistent):
            yield value.reference
        elif isinstance(value, Made):
            left += [value.arguments, value.state, value.items]
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, (list, tuple)):
            left += value
