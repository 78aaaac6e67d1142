"""Tells whether two images hold the same bits, without moving them."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

WORD = 8  # bytes
BLOCK = 2**16  # words


def fingerprint(pixels: Tensor) -> str:
    """Shape, dtype and 128 bits of a tensor's content, taken on its own device.

    Two multilinear hashes modulo 2**64 (Lemire and Kaser 2014, 'Strongly universal string hashing is fast'), each of
    blocks and then of the blocks' sums. The coefficients are odd, so one word that differs always changes the hash.
    """
    data = pixels.contiguous().flatten().view(torch.uint8)
    blocks = F.pad(data, (0, -len(data) % (WORD * BLOCK))).view(torch.int64).view(-1, BLOCK)
    return " ".join([str(tuple(pixels.shape)), str(pixels.dtype), *(f"{_hash(blocks, seed):x}" for seed in (1, 2))])


def _hash(blocks: Tensor, seed: int) -> int:
    sums = (blocks * _coefficients(seed, blocks.device)).sum(1)
    return int((sums * _coefficients(-seed, blocks.device)[: len(sums)]).sum())


@lru_cache(maxsize=8)
def _coefficients(seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(-(2**63), 2**63 - 1, (BLOCK,), generator=generator) | 1).to(device)
