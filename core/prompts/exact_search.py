"""The nearest of many vectors, exactly, while reading a quarter of their bytes.

Each vector x is also kept rounded to eight bits, as x' = scale * codes, with the length of what the rounding lost. A query
q is compared with all x' first; for unit vectors |x.q - x'.q| <= |x - x'| (Cauchy and Schwarz), so that a vector whose
rough product is too far below the k-th best found so far cannot be among the k best. The others, few, are compared in
full: the answer is that of comparing everything. Before the rounding the vectors are turned at random, which spreads what
a few coordinates hold over all of them, so that little is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_FIRST = 512  # candidates compared in full before anything is known
_CHUNK = 1 << 16
_GATHER = 20  # rows picked out here and there cost about so many times one of all in a row
_CODES = 127
_WIDTH = 64  # torch's int8 product leaves out what does not fill a register
_BF16 = 2.0**-8  # relative error of a number rounded to bfloat16
_ROUNDING = 1e-4  # of a float32 sum of a few thousand products of two unit vectors, with room


class Nearest(NamedTuple):
    """Positions of the nearest vectors, best first, and their products with the query."""

    positions: Tensor  # (K,) int64
    products: Tensor  # (K,) float32


@dataclass(frozen=True)
class ExactSearch:
    """N unit vectors of D numbers, and the same turned and rounded. The tensors may lie in a memory-mapped file."""

    vectors: Tensor  # (N, D) float32
    rotation: Tensor  # (D, D) float32, orthogonal
    codes: Tensor  # (N, D filled up with zeros to a multiple of 64) int8
    scales: Tensor  # (N,) bfloat16
    lost: Tensor  # (N,) float32, what the rounding took away

    @classmethod
    def of(cls, vectors: Tensor) -> ExactSearch:
        """(N, D) vectors of length 1, N >= 1."""
        vectors = vectors.float().contiguous()
        count, width = vectors.shape
        rotation = _random_rotation(width)
        codes = torch.zeros(count, width + -width % _WIDTH, dtype=torch.int8)
        scales, lost = torch.empty(count, dtype=torch.bfloat16), torch.empty(count)
        for at in _chunks(count):
            rows = vectors[at] @ rotation
            # Half a percent more, for what bfloat16 may take away: no code beyond 127.
            scales[at] = (rows.abs().amax(1).clamp_min(1e-30) / _CODES * 1.005).bfloat16()
            scale = scales[at].float()[:, None]
            rounded = (rows / scale).round_().clamp_(-_CODES, _CODES)
            codes[at, :width] = rounded.to(torch.int8)
            lost[at] = (rows - rounded * scale).norm(dim=1)
        return cls(vectors, rotation, codes, scales, lost)

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(self, query: Tensor, k: int, allowed: Tensor | None = None) -> Nearest:
        """The `k` vectors of the largest product with `query` (D,) of length 1; allowed: (N,) bool, which may be returned."""
        query = query.float()
        k = min(k, len(self) if allowed is None else int(allowed.sum()))
        if k == 0:
            return Nearest(torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        candidates = self._candidates(query, k, allowed)
        if candidates is None:
            products = self._all_products(query)
            if allowed is not None:
                products.masked_fill_(~allowed, -torch.inf)
            best = products.topk(k)
            return Nearest(best.indices, best.values)
        best = (self.vectors[candidates] @ query).topk(k)
        return Nearest(candidates[best.indices], best.values)

    def _candidates(self, query: Tensor, k: int, allowed: Tensor | None) -> Tensor | None:
        """Positions among which the k best surely are; None where rounding tells too little, or cannot be used here."""
        turned = query @ self.rotation
        rough = _rough_products(self.codes, self.scales, turned)
        if rough is None:
            return None
        # What the query loses as bfloat16, and the result, as such, too.
        certain = float((turned - turned.bfloat16().float()).norm()) + _ROUNDING
        error = self.lost + rough.abs() * (1.01 * _BF16) + certain
        highest = rough + error
        if allowed is not None:
            highest.masked_fill_(~allowed, -torch.inf)
        tried = highest.topk(min(max(_FIRST, 2 * k), int(len(self) if allowed is None else allowed.sum()))).indices
        products = self.vectors[tried] @ query
        if bool(((products - rough[tried]).abs() > error[tried]).any()):
            return None  # this build of torch computes otherwise than the bound assumes
        limit = products.topk(k).values[-1]
        candidates = (highest >= limit - _ROUNDING).nonzero()[:, 0]
        return candidates if len(candidates) <= max(_FIRST, len(self) // _GATHER) else None

    def _all_products(self, query: Tensor) -> Tensor:
        return torch.cat([self.vectors[at] @ query for at in _chunks(len(self))])


def _random_rotation(width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(width, width, generator=generator)).Q.contiguous()


def _rough_products(codes: Tensor, scales: Tensor, query: Tensor) -> Tensor | None:
    """(N,) float32 products of the rounded vectors with the query in bfloat16; None where torch has no such operation.

    It is the weight-only int8 product of newer torch, which has no public name; who calls this checks every answer.
    """
    multiply = getattr(torch, "_weight_int8pack_mm", None)
    if multiply is None:
        return None
    try:
        filled = torch.nn.functional.pad(query, (0, codes.shape[1] - len(query)))
        products: Tensor = multiply(filled.bfloat16()[None], codes, scales)
    except (RuntimeError, NotImplementedError):
        return None
    return products[0].float()


def _chunks(count: int) -> Iterator[slice]:
    return (slice(i, i + _CHUNK) for i in range(0, count, _CHUNK))
