"""How different the pictures of one caption are: what a run loses first that goes for one look alone.

Plain on purpose: it needs no network, so nothing can learn to please it, and it sees layout and colours, no details.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

SIDE = 32  # pixels of the pictures that are compared


def small(pixels: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) uint8 -> (N, 3, SIDE, SIDE) float32 in 0..1, each pixel the mean of those it stands for."""
    return F.adaptive_avg_pool2d(pixels.float() / 255, SIDE)


def diversity_of(prompts: Sequence[str], pictures: Tensor) -> tuple[float, ...]:
    """Of each caption with several pictures, in order: the root mean square difference of two, averaged over all pairs.

    prompts: one for each of the small pictures (N, 3, h, w).
    """
    groups: dict[str, list[int]] = {}
    for n, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(n)
    return tuple(_mean_distance(pictures[numbers]) for numbers in groups.values() if len(numbers) > 1)


def _mean_distance(pictures: Tensor) -> float:
    flat = pictures.flatten(1).double()
    return float(F.pdist(flat).mean() / flat.shape[1] ** 0.5)
