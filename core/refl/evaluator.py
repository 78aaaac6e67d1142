"""The fixed pictures of a run: the same prompts from the same noises, drawn with the weights of the moment, scored twice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scorers.base import Scorer
from ..training.backend import Backend
from .generator import Generator, Sampling
from .guard import Evaluation
from .randomness import SampleNoise, derive_seed
from .reward_gradient import decode_and_score
from .update import draw


@dataclass(frozen=True)
class Evaluator:
    """Each process draws and scores its share; what is returned is the same on all."""

    generator: Generator
    scorer: Scorer
    held_out: Scorer
    sampling: Sampling
    prompts: list[str]  # one per picture
    seed: int
    backend: Backend

    def evaluate(self, update: int, strength: float) -> tuple[Evaluation, Tensor]:
        """The scores of all pictures, and this process's pictures, (n, 3, H, W) uint8 on the CPU."""
        pixels, reward, held_out = self._score_share()
        rewards, held = (self.backend.gather(each)[: len(self.prompts)].cpu() for each in (reward, held_out))
        return Evaluation(update, strength, tuple(rewards.tolist()), tuple(held.tolist())), pixels

    def _score_share(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures one by one, so that an evaluation needs no more memory than an update."""
        share = -(-len(self.prompts) // self.backend.world)
        pictures, rewards, held_out = [], [], []
        for n in range(self.backend.rank * share, (self.backend.rank + 1) * share):
            prompt = self.prompts[n % len(self.prompts)]
            noise = SampleNoise.of_seeds([derive_seed(self.seed, "evaluation", n)])
            latents = draw(self.generator, self.sampling, [prompt], noise)
            with torch.no_grad():
                pixels, reward = decode_and_score(self.generator, self.scorer, latents, [prompt])
                self.generator.bring_scorer(self.held_out)
                held = self.held_out.score(pixels, [self.generator.plain(prompt)])
            rewards.append(reward.float().cpu())
            held_out.append(held.float().cpu())
            pictures.append((pixels * 255).round().to(torch.uint8).cpu())
        return torch.cat(pictures), torch.cat(rewards), torch.cat(held_out)
