"""A library's vectors on disk, memory-mapped, with a digest of the text that each belongs to."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UnknownCheckpoint
from ..files.atomic import replacing_path
from ..weights.read import read_checkpoint
from .exact_search import ExactSearch
from .faiss_search import Cells

log = logging.getLogger(__name__)

_FORMAT = "2"
_SAME = 0.999  # cosine of two precisions of one network; those of two networks are far lower
_TENSORS = tuple(field.name for field in fields(ExactSearch))
_CELLS = tuple(field.name for field in fields(Cells))


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
    tensors = _read(path, {"format": _FORMAT}, {*_TENSORS, "digests", "probe"})
    if tensors is None:
        return None
    if tensors["probe"].shape != probe.shape or float(tensors["probe"] @ probe) < _SAME:
        return None
    return Kept(search_of(tensors), tensors["digests"].numpy())


def search_of(tensors: Mapping[str, Tensor]) -> ExactSearch:
    return ExactSearch(**{name: tensors[name] for name in _TENSORS})


def keep(kept: Kept, path: Path, probe: Tensor) -> None:
    """Writes the index, whole or not at all; a folder that cannot be written to is no error: the next call embeds again."""
    tensors = {name: getattr(kept.search, name) for name in _TENSORS}
    tensors["probe"] = probe.contiguous()
    tensors["digests"] = torch.from_numpy(kept.digests.copy())
    _write(tensors, path, {"format": _FORMAT})


def read_cells(path: Path, digests: np.ndarray) -> Cells | None:
    """What `keep_cells` wrote for the same texts; None otherwise."""
    tensors = _read(path, {"texts": _digest(digests)}, set(_CELLS))
    return None if tensors is None else Cells(*(tensors[name] for name in _CELLS))


def keep_cells(cells: Cells, path: Path, digests: np.ndarray) -> None:
    _write({name: getattr(cells, name) for name in _CELLS}, path, {"texts": _digest(digests)})


def _digest(digests: np.ndarray) -> str:
    return hashlib.blake2b(digests.tobytes(), digest_size=16).hexdigest()


def _read(path: Path, metadata: Mapping[str, str], names: set[str]) -> Mapping[str, Tensor] | None:
    """The tensors of a file with this metadata and at least these names; None if it is another, damaged, or none."""
    if not path.is_file():
        return None
    try:
        checkpoint = read_checkpoint(path)
    except UnknownCheckpoint as error:
        log.warning("the index of the library is made anew: %s", error)
        return None
    fits = metadata.items() <= checkpoint.metadata.items() and names <= set(checkpoint.tensors)
    return checkpoint.tensors if fits else None


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    try:
        with replacing_path(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except OSError as error:
        log.warning("the index of the library is not kept: %s", error)
