"""A library's vectors on disk, memory-mapped, with a digest of the text that each belongs to."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UnknownCheckpoint
from ..weights.read import read_checkpoint
from .exact_search import ExactSearch

log = logging.getLogger(__name__)

_FORMAT = "2"
_SAME = 0.999  # cosine of two precisions of one network; those of two networks are far lower
_TENSORS = tuple(field.name for field in fields(ExactSearch))


@dataclass(frozen=True)
class Kept:
    """Vectors that can be searched, and (N, 16) uint8 digests of their texts."""

    search: ExactSearch
    digests: np.ndarray


def digests_of(texts: Sequence[str]) -> np.ndarray:
    """(N, 16) uint8."""
    joined = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 16)


def read_kept(path: Path, probe: Tensor) -> Kept | None:
    """What `keep` wrote; None if there is nothing, or it is damaged, or its embedder made something else of the probe text.

    probe: (D,) what the embedder makes of it now. So another checkpoint is noticed, whatever it is called, and another
    precision or device makes no difference.
    """
    if not path.is_file():
        return None
    try:
        checkpoint = read_checkpoint(path)
    except UnknownCheckpoint as error:
        log.warning("the index of the library is made anew: %s", error)
        return None
    tensors = checkpoint.tensors
    if checkpoint.metadata.get("format") != _FORMAT or not {*_TENSORS, "digests", "probe"} <= set(tensors):
        return None
    if tensors["probe"].shape != probe.shape or float(tensors["probe"] @ probe) < _SAME:
        return None
    return Kept(ExactSearch(**{name: tensors[name] for name in _TENSORS}), tensors["digests"].numpy())


def keep(kept: Kept, path: Path, probe: Tensor) -> None:
    """Writes the index, whole or not at all; a folder that cannot be written to is no error: the next call embeds again."""
    from safetensors.torch import save_file

    tensors = {name: getattr(kept.search, name) for name in _TENSORS}
    tensors["probe"] = probe.contiguous()
    tensors["digests"] = torch.from_numpy(kept.digests.copy())
    temporary = path.with_name(path.name + ".incomplete")
    try:
        save_file(tensors, temporary, metadata={"format": _FORMAT})
        os.replace(temporary, path)
    except OSError as error:
        log.warning("the index of the library could not be kept at %s (%s)", path, error)
        temporary.unlink(missing_ok=True)
