"""The nearest of more vectors than can all be compared: an inverted file of faiss (Jégou et al. 2011; Johnson et al. 2019,
arXiv 1702.08734), which looks into the cells nearest to the query alone.

A neighbour in another cell is missed; with as many probes as there are cells, none is. What is found is compared again with
the vectors themselves, so products and their order are exact. faiss is an extra: `pip install faiss-cpu`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageRewardError
from .exact_search import ExactSearch, Nearest

PROBES = 32
_AGAIN = 10  # times as many candidates as wanted are compared again, for what eight bits confuse
_SAMPLE = 40  # vectors a cell that the cells are found with
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Cells:
    """Which vector lies in which cell: all that took long to find, as tensors that can be kept."""

    centres: Tensor  # (C, D) float32
    members: Tensor  # (N,) int64


@dataclass(frozen=True)
class FaissSearch:
    """N unit vectors of D numbers, in cells."""

    vectors: Tensor  # (N, D) float32
    cells: Cells
    index: Any
    probes: int

    @classmethod
    def of(cls, search: ExactSearch, *, cells: Cells | None = None, probes: int = PROBES) -> FaissSearch:
        """cells: those of an earlier call with the same vectors, which spares finding them."""
        faiss = load_faiss()
        found = cells or find_cells(search.vectors)
        width = search.vectors.shape[1]
        coarse = faiss.IndexFlatIP(width)
        coarse.add(found.centres.numpy())
        count = len(found.centres)
        index = faiss.IndexIVFScalarQuantizer(
            coarse, width, count, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.train(_sample(search.vectors, count).numpy())  # the range of the eight bits; the cells are there
        for start in range(0, len(search.vectors), _CHUNK):
            rows = search.vectors[start : start + _CHUNK].numpy()
            members = np.ascontiguousarray(found.members[start : start + _CHUNK].numpy())
            index.add_core(len(rows), faiss.swig_ptr(rows), None, faiss.swig_ptr(members))
        return cls(search.vectors, found, index, min(probes, count))

    def nearest(self, query: Tensor, k: int, allowed: Tensor | None = None) -> Nearest:
        """As `ExactSearch.nearest`, less what lies in cells that are not looked into: there may be fewer than `k`."""
        faiss = load_faiss()
        options: dict[str, Any] = {"nprobe": self.probes}
        if allowed is not None:
            bits = np.packbits(allowed.numpy(), bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        count = min(_AGAIN * k, len(self.vectors))
        _, found = self.index.search(query.float()[None].numpy(), count, params=faiss.SearchParametersIVF(**options))
        candidates = torch.from_numpy(found[0][found[0] >= 0])
        best = (self.vectors[candidates] @ query.float()).topk(min(k, len(candidates)))
        return Nearest(candidates[best.indices], best.values)


def find_cells(vectors: Tensor) -> Cells:
    """k-means on a sample, then the nearest centre of each vector. Minutes for a million."""
    faiss = load_faiss()
    count = max(1, min(len(vectors) // _SAMPLE, round(4 * len(vectors) ** 0.5)))
    means = faiss.Kmeans(vectors.shape[1], count, niter=10, seed=0, spherical=True, min_points_per_centroid=1)
    means.train(_sample(vectors, count).numpy())
    coarse = faiss.IndexFlatIP(vectors.shape[1])
    coarse.add(means.centroids)
    members = [
        coarse.search(vectors[start : start + _CHUNK].numpy(), 1)[1][:, 0] for start in range(0, len(vectors), _CHUNK)
    ]
    return Cells(torch.from_numpy(means.centroids.copy()), torch.from_numpy(np.concatenate(members)))


def load_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImageRewardError("searching with faiss needs that package: pip install faiss-cpu") from error
    return faiss


def _sample(vectors: Tensor, cells: int) -> Tensor:
    return vectors[:: max(1, len(vectors) // (_SAMPLE * cells))].contiguous()
