"""The safetensors format, read without a memory map: a header of JSON, then the tensors' bytes.

https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, BinaryIO

import torch

from .stored import SourceFile, StoredTensor

_LONGEST_HEADER = 10_000_000  # bytes; a header of ten thousand tensors has one million
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


def is_safetensors(head: bytes, size: int) -> bool:
    """head: the first 9 bytes of a file of that size."""
    return len(head) == 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size


def read_safetensors(file: BinaryIO, source: SourceFile) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Tensors and text metadata. Raises ValueError, or what `json` raises, for what is no whole safetensors file."""
    header, begin = _header(file, source.size)
    metadata = _metadata(header)
    tensors: dict[str, StoredTensor] = {}
    ranges = [(0, 0)]
    for name, entry in header.items():
        if name != "__metadata__":
            if entry["dtype"] not in _DTYPES:
                raise ValueError(f"{name} is of the unknown dtype {entry['dtype']!r}")
            first, last = _whole_numbers(entry["data_offsets"])
            tensors[name] = _tensor(source, begin + first, last - first, _DTYPES[entry["dtype"]], entry["shape"])
            ranges.append((first, last))
    ranges.sort()
    if any(before[1] != after[0] for before, after in pairwise(ranges)):
        raise ValueError("tensors overlap, or something lies between them")
    if begin + ranges[-1][1] != source.size:
        raise ValueError(f"expected {begin + ranges[-1][1]} bytes, got {source.size}")
    return tensors, metadata


def _tensor(source: SourceFile, offset: int, size: int, dtype: torch.dtype, shape: Any) -> StoredTensor:
    lengths = _whole_numbers(shape)
    if math.prod(lengths) * dtype.itemsize != size:
        raise ValueError(f"a tensor of shape {shape} has {size} bytes")
    return StoredTensor(torch.Size(lengths), dtype, lambda: source.read(offset, size).view(dtype).view(lengths))


def read_header_metadata(file: BinaryIO, size: int) -> dict[str, str]:
    """The text metadata of a safetensors file of that size; raises as `read_safetensors`."""
    return _metadata(_header(file, size)[0])


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors' bytes begin."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
        raise ValueError(f"expected a header of at most {min(_LONGEST_HEADER, size - 8)} bytes, got {length}")
    header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header, 8 + length


def _metadata(header: Mapping[str, Any]) -> dict[str, str]:
    metadata = header.get("__metadata__") or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the metadata are no texts")
    return metadata


def _whole_numbers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"expected a list of whole numbers, got {values!r:.80}")
    return tuple(values)
