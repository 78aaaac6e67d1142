"""The nearest of many vectors, by comparing all of them, a part at a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 1 << 16  # vectors that are compared at once: a product of a quarter of a megabyte


class Nearest(NamedTuple):
    """Positions of the nearest vectors, best first, and their products with the query."""

    positions: Tensor  # (K,) int64
    products: Tensor  # (K,) float32


class ExactSearch:
    """N unit vectors of D numbers."""

    def __init__(self, vectors: Tensor) -> None:
        """vectors: (N, D), of length 1."""
        self.vectors = vectors.float().contiguous()

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(self, query: Tensor, k: int, allowed: Tensor | None = None) -> Nearest:
        """The `k` vectors of the largest product with `query` (D,) of length 1; allowed: (N,) bool, which may be returned."""
        query = query.float()
        positions, products = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        for start in range(0, len(self), _CHUNK):
            part = self.vectors[start : start + _CHUNK] @ query
            if allowed is not None:
                part.masked_fill_(~allowed[start : start + _CHUNK], -torch.inf)
            best = part.topk(min(k, len(part)))
            products, positions = torch.cat((products, best.values)), torch.cat((positions, best.indices + start))
            products, order = products.topk(min(k, len(products)))
            positions = positions[order]
        found = products > -torch.inf
        return Nearest(positions[found], products[found])
