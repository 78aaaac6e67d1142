"""Every random choice of a run as a pure function of (seed, position).

Nothing is drawn from a stream that someone else may also drink from, so a resumed run repeats to the bit, two processes draw
what one process with twice the batch would draw, and no two ranks ever share a noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def derive_seed(*parts: object) -> int:
    """A seed of 63 bits from the parts; other parts, another seed (SHA-256 of their text)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class SampleNoise:
    """One random stream per picture of a batch. Streams live on the CPU, so every device draws the same numbers."""

    def __init__(self, generators: Sequence[torch.Generator]):
        self.generators = list(generators)

    @classmethod
    def of_seeds(cls, seeds: Sequence[int]) -> SampleNoise:
        return cls([torch.Generator().manual_seed(seed) for seed in seeds])

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal float32, (B, *shape) on the CPU: the next numbers of each picture's stream."""
        return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in self.generators])

    def integers(self, high: int) -> Tensor:
        """One whole number in 0..high-1 per picture, (B,) int64 on the CPU."""
        return torch.cat([torch.randint(high, (1,), generator=generator) for generator in self.generators])


@dataclass(frozen=True)
class MicroBatch:
    """What one process draws between two backward passes."""

    prompts: tuple[int, ...]  # positions in the list of prompts, one per picture
    seeds: tuple[int, ...]
    stop: int  # the step at which x0 is predicted; the same for every picture and process of this micro-step


@dataclass(frozen=True)
class Draws:
    """The run's plan: which prompt, which noise, which stop step, at every position."""

    seed: int
    prompts: int  # how many prompts there are; each is used once per epoch, in an order of its own
    batch: int
    accumulation: int
    stop_window: tuple[int, int]
    world: int = 1

    def micro_batch(self, update: int, micro: int, rank: int = 0) -> MicroBatch:
        position = update * self.accumulation + micro
        first = (position * self.world + rank) * self.batch
        low, high = self.stop_window
        stops = torch.Generator().manual_seed(derive_seed(self.seed, "stop", position))
        return MicroBatch(
            prompts=tuple(self.prompt(n) for n in range(first, first + self.batch)),
            seeds=tuple(derive_seed(self.seed, "noise", n) for n in range(first, first + self.batch)),
            stop=int(torch.randint(low, high + 1, (1,), generator=stops)),
        )

    def prompt(self, sample: int) -> int:
        epoch, place = divmod(sample, self.prompts)
        return self._order(epoch)[place]

    def _order(self, epoch: int) -> list[int]:
        key = (self.seed, self.prompts, epoch)
        if key not in _orders:
            _orders.clear()  # runs go forward: the last order is the only one asked for again
            shuffled = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
            _orders[key] = torch.randperm(self.prompts, generator=shuffled).tolist()
        return _orders[key]

    def used_prompts(self, updates: int) -> list[int]:
        """Positions of every prompt that `updates` updates will use, on all processes, each once."""
        samples = min(updates * self.accumulation * self.world * self.batch, self.prompts)
        return sorted({self.prompt(n) for n in range(samples)})


_orders: dict[tuple[int, int, int], list[int]] = {}
