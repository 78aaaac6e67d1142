"""The fixed pictures of a run: the same prompts from the same noises, drawn with the weights of the moment, and scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scorers.base import Scorer
from ..training.backend import Backend
from .diversity import diversity_of, small
from .generator import DRAWN_AT_ONCE, Generator, Sampling
from .guard import Evaluation
from .randomness import SampleNoise, derive_seed
from .reward_gradient import decode_and_score
from .update import draw


@dataclass(frozen=True)
class Evaluator:
    """Each process draws and scores its share; what is returned is the same on all."""

    generator: Generator
    scorer: Scorer
    held_out: Mapping[str, Scorer]  # by title
    sampling: Sampling
    prompts: list[str]  # one per picture
    seed: int
    backend: Backend
    # Pictures that an update has in memory at once. An evaluation needs no more of it: it decodes and scores as many at a
    # time, and draws `DRAWN_AT_ONCE` times as many.
    batch_size: int

    def evaluate(self, update: int, strength: float) -> tuple[Evaluation, Tensor]:
        """The scores of all pictures, and this process's pictures, (n, 3, H, W) uint8 on the CPU."""
        share = -(-len(self.prompts) // self.backend.world)
        first = self.backend.rank * share
        pixels, scores = zip(*map(self._draw_and_score, self._batches(range(first, first + share))), strict=True)
        reward, *held_out = (tuple(column.tolist()) for column in self._of_all(torch.cat(scores)).unbind(1))
        diversity = diversity_of(self.prompts, self._of_all(torch.cat(list(map(small, pixels)))))
        by_title = dict(zip(self.held_out, held_out, strict=True))
        return Evaluation(update, strength, reward, by_title, diversity), torch.cat(pixels)

    def _of_all(self, share: Tensor) -> Tensor:
        """What this process found of its pictures, with what the others found of theirs."""
        return self.backend.gather(share)[: len(self.prompts)].cpu()

    def _prompt(self, n: int) -> str:
        return self.prompts[n % len(self.prompts)]

    def _batches(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Pictures to draw at once."""
        batch: list[int] = []
        for n in numbers:
            full = len(batch) == DRAWN_AT_ONCE * self.batch_size
            if batch and (full or not self.generator.fit_together(self._prompt(batch[0]), self._prompt(n))):
                yield batch
                batch = []
            batch.append(n)
        yield batch

    @torch.no_grad()
    def _draw_and_score(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The pictures of these numbers, (n, 3, H, W) uint8, and their scores, (n, scorers) float32; both on the CPU."""
        prompts = [self._prompt(n) for n in numbers]
        noise = SampleNoise.of_seeds([derive_seed(self.seed, "evaluation", n) for n in numbers])
        latents = draw(self.generator, self.sampling, prompts, noise)
        few = [slice(first, first + self.batch_size) for first in range(0, len(prompts), self.batch_size)]
        scored = [decode_and_score(self.generator, self.scorer, latents[part], prompts[part]) for part in few]
        pixels, scores = torch.cat([one.cpu() for one, _ in scored]), [torch.cat([one.cpu() for _, one in scored])]
        plain = [self.generator.plain(prompt) for prompt in prompts]
        for scorer in self.held_out.values():
            self.generator.bring_scorer(scorer)
            scores.append(torch.cat([scorer.score(pixels[part], plain[part]).cpu() for part in few]))
        return (pixels * 255).round().to(torch.uint8), torch.stack([each.float() for each in scores], dim=1)
