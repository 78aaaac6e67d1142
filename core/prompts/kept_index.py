"""A library's vectors on disk, with a digest of the text that each belongs to.

They are read into memory, and the file is closed: Windows replaces no file that somebody has mapped.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UnknownCheckpoint
from ..files.atomic import replacing_path
from ..weights.read import read_checkpoint
from .faiss_search import Cells

log = logging.getLogger(__name__)

_FORMAT = "3"
_SAME = 0.999  # cosine of two precisions of one network; those of two networks are far lower
_LONGEST = 1.001  # a unit vector after rounding


@dataclass(frozen=True)
class Kept:
    """(N, D) float32 unit vectors, and (N, 16) uint8 digests of their texts."""

    vectors: Tensor
    digests: np.ndarray


def digests_of(texts: Sequence[str]) -> np.ndarray:
    """(N, 16) uint8."""
    joined = b"".join(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest() for text in texts)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 16)


def read_kept(path: Path, probe: Tensor) -> Kept | None:
    """What `keep` wrote; None if there is nothing, or it is damaged, or its embedder made something else of the probe text.

    probe: (D,) what the embedder makes of it now. So another checkpoint is noticed, whatever it is called, and another
    precision or device makes no difference.
    """
    tensors = _read(
        path, {"format": _FORMAT}, {"vectors": torch.float32, "digests": torch.uint8, "probe": torch.float32}
    )
    if tensors is None:
        return None
    vectors, digests, before = tensors["vectors"], tensors["digests"], tensors["probe"]
    if digests.ndim != 2 or digests.shape[1] != 16 or vectors.shape != (len(digests), len(probe)):
        return None
    if before.shape != probe.shape or not float(before @ probe) >= _SAME or not _are_unit(vectors):
        return None
    return Kept(vectors, digests.numpy())


def keep(kept: Kept, path: Path, probe: Tensor) -> None:
    """Writes the index, whole or not at all; a folder that cannot be written to is no error: the next call embeds again."""
    tensors = {"vectors": kept.vectors, "probe": probe.contiguous(), "digests": torch.from_numpy(kept.digests.copy())}
    _write(tensors, path, {"format": _FORMAT})


def read_cells(path: Path, digests: np.ndarray, width: int) -> Cells | None:
    """What `keep_cells` wrote for vectors of `width` numbers of the same texts; None otherwise."""
    tensors = _read(path, {"texts": _digest(digests)}, {"centres": torch.float32, "members": torch.int64})
    if tensors is None:
        return None
    centres, members = tensors["centres"], tensors["members"]
    if centres.ndim != 2 or centres.shape[1] != width or members.shape != (len(digests),) or not _are_unit(centres):
        return None
    return Cells(centres, members) if int(members.min()) >= 0 and int(members.max()) < len(centres) else None


def keep_cells(cells: Cells, path: Path, digests: np.ndarray) -> None:
    _write({"centres": cells.centres, "members": cells.members}, path, {"texts": _digest(digests)})


def _are_unit(vectors: Tensor) -> bool:
    """Whether no vector is longer than 1, or holds what is no number."""
    return bool((vectors.norm(dim=1) <= _LONGEST).all())


def _digest(digests: np.ndarray) -> str:
    return hashlib.blake2b(digests.tobytes(), digest_size=16).hexdigest()


def _read(path: Path, metadata: Mapping[str, str], dtypes: Mapping[str, torch.dtype]) -> dict[str, Tensor] | None:
    """The tensors of these names in a file with this metadata; None if it is another, damaged, or none."""
    if not path.is_file():
        return None
    try:
        checkpoint = read_checkpoint(path)
        if not metadata.items() <= checkpoint.metadata.items():
            return None  # of an earlier version, or of other texts
        if any(name not in checkpoint.tensors or checkpoint.tensors[name].dtype != dtypes[name] for name in dtypes):
            return None
        return {name: checkpoint.tensors[name].read() for name in dtypes}
    except UnknownCheckpoint as error:
        log.warning("the index of the library is made anew: %s", error)
        return None


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    try:
        with replacing_path(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except OSError as error:
        log.warning("the index of the library is not kept: %s", error)
