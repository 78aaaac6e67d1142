"""A checkpoint as safetensors in the precision one wants, with metadata that says what it is."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import ImageRewardError
from ..files.atomic import replace_by_copy, replacing_path
from .read import read_checkpoint

_TOKENIZER_FILES = ("vocab.txt", "vocab.json", "merges.txt")


def convert(source: Path, target: Path, dtype: torch.dtype, metadata: dict[str, str]) -> Path:
    """Writes `target` (safetensors) with floating-point tensors as `dtype`; a tokenizer beside the source comes along.

    Written to a temporary file first, so that a full disk leaves nothing half-made. Never overwrites the source.
    """
    from safetensors.torch import save_file

    if target.resolve() == source.resolve():
        raise ImageRewardError(f"source and target are the same file, {source}; name another with --output")
    checkpoint = read_checkpoint(source)
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in ((name, stored.read()) for name, stored in checkpoint.tensors.items())
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing_path(target) as temporary:
        save_file(tensors, temporary, metadata={**checkpoint.metadata, **metadata})
    for name in _TOKENIZER_FILES:
        if (source.parent / name).is_file() and not (target.parent / name).exists():
            replace_by_copy(source.parent / name, target.parent / name)
    return target
