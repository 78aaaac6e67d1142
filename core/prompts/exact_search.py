"""The nearest of many vectors, exactly, and without reading most of their coordinates where their spectrum allows it.

Vectors are rotated so that their leading coordinates carry most of their length (principal axes). With x = (x1, x2) cut
after those, x.q <= x1.q1 + |x2| |q2| (Cauchy and Schwarz), so a vector whose bound is below the k-th best product found
so far cannot be among the k best. What is left is compared in full: the answer is that of comparing everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LEADING = 128
_FIRST = 512  # candidates compared in full before anything is known
_CHUNK = 1 << 16
_GATHER = 20  # rows picked out here and there cost about so many times one of all in a row
_SAMPLE = 1 << 14  # vectors that the axes are found with
_ROUNDING = 1e-5  # of a float32 product of unit vectors


class Nearest(NamedTuple):
    """Positions of the nearest vectors, best first, and their products with the query."""

    positions: Tensor  # (K,) int64
    products: Tensor  # (K,) float32


@dataclass(frozen=True)
class ExactSearch:
    """N unit vectors of D numbers, rotated and cut. The tensors may lie in a memory-mapped file."""

    leading: Tensor  # (N, L) float32
    trailing: Tensor  # (N, D - L)
    trailing_norm: Tensor  # (N,)
    rotation: Tensor  # (D, D), orthogonal: vectors @ rotation = (leading, trailing)

    @classmethod
    def of(cls, vectors: Tensor) -> ExactSearch:
        """(N, D) vectors of length 1, N >= 1."""
        sample = vectors[:: max(1, len(vectors) // _SAMPLE)]  # any rotation is exact; a good one is fast
        moment = sample.T @ sample
        rotation = torch.linalg.eigh(moment.double()).eigenvectors.flip(1).float().contiguous()
        length = min(LEADING, vectors.shape[1])
        rotated = torch.cat([chunk @ rotation for chunk in _chunks(vectors)])
        leading, trailing = rotated[:, :length].contiguous(), rotated[:, length:].contiguous()
        return cls(leading, trailing, trailing.norm(dim=1), rotation)

    def __len__(self) -> int:
        return len(self.leading)

    def vectors(self, positions: Tensor) -> Tensor:
        """(K,) positions -> (K, D) vectors, rotated; products between them are those of the originals."""
        return torch.cat((self.leading[positions], self.trailing[positions]), dim=1)

    def originals(self, positions: Tensor) -> Tensor:
        """(K,) positions -> (K, D) vectors as they were given, up to rounding."""
        return self.vectors(positions) @ self.rotation.T

    def nearest(self, query: Tensor, k: int, allowed: Tensor | None = None) -> Nearest:
        """The `k` vectors of the largest product with `query` (D,); allowed: (N,) bool, which ones may be returned."""
        turned = query.float() @ self.rotation
        first, rest = turned[: self.leading.shape[1]], turned[self.leading.shape[1] :]
        partial = self.leading @ first
        bound = partial + self.trailing_norm * rest.norm()
        if allowed is not None:
            bound = bound.masked_fill(~allowed, -torch.inf)
        k = min(k, len(self) if allowed is None else int(allowed.sum()))
        if k == 0:
            return Nearest(torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        tried = bound.topk(min(max(_FIRST, 2 * k), len(bound))).indices
        limit = (self.vectors(tried) @ turned).masked_fill(bound[tried].isinf(), -torch.inf).topk(k).values[-1]
        candidates = (bound >= limit - _ROUNDING).nonzero()[:, 0]
        if len(candidates) > len(self) // _GATHER:  # the bound told little: reading all in a row is faster
            products = (partial + self.trailing @ rest)[candidates]
        else:
            products = self.vectors(candidates) @ turned
        best = products.topk(min(k, len(products)))
        return Nearest(candidates[best.indices], best.values)


def _chunks(rows: Tensor) -> Iterator[Tensor]:
    return (rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK))
