"""The fixed pictures of a run: the same prompts from the same noises, drawn with the weights of the moment, and scored."""

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
    held_out: Scorer | None
    sampling: Sampling
    prompts: list[str]  # one per picture
    seed: int
    backend: Backend

    def evaluate(self, update: int, strength: float) -> tuple[Evaluation, Tensor]:
        """The scores of all pictures, and this process's pictures, (n, 3, H, W) uint8 on the CPU."""
        pixels, reward, held_out = self._score_share()
        held = self._of_all(held_out) if self.held_out is not None else ()
        return Evaluation(update, strength, self._of_all(reward), held), pixels

    def _of_all(self, share: Tensor) -> tuple[float, ...]:
        """This process's scores with those of the others."""
        return tuple(self.backend.gather(share)[: len(self.prompts)].cpu().tolist())

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
                if self.held_out is not None:
                    self.generator.bring_scorer(self.held_out)
                    held_out.append(self.held_out.score(pixels, [self.generator.plain(prompt)]).float().cpu())
            rewards.append(reward.float().cpu())
            pictures.append((pixels * 255).round().to(torch.uint8).cpu())
        return torch.cat(pictures), torch.cat(rewards), torch.cat(held_out) if held_out else torch.empty(0)
