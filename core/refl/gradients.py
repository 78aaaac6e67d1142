"""The backward passes of one update: which pictures are drawn, and what their losses were."""

from __future__ import annotations

import torch
from torch import Tensor

from ..scorers.base import Scorer
from ..training.backend import Backend
from .config import ReflConfig
from .data import CaptionedImages
from .generator import Generator, Sampling
from .randomness import Draws, SampleNoise, derive_seed
from .tuning import Tuning
from .update import pretrain, rollout


class Gradients:
    """Leaves the gradients of update 0, 1, ... on the tuned parameters; a function of the config and the update's number."""

    def __init__(
        self,
        generator: Generator,
        scorer: Scorer,
        tuning: Tuning,
        backend: Backend,
        config: ReflConfig,
        sampling: Sampling,
        prompts: list[str],
        captioned: CaptionedImages | None,
    ):
        self.generator, self.scorer, self.tuning, self.backend = generator, scorer, tuning, backend
        self.config, self.sampling, self.prompts, self.captioned = config, sampling, prompts, captioned
        self.draws = self._draws(config.seed, len(prompts))
        if captioned is not None:
            self.pretraining_draws = self._draws(derive_seed(config.seed, "pretraining"), len(captioned.prompts))

    def _draws(self, seed: int, count: int) -> Draws:
        config = self.config
        return Draws(seed, count, config.batch_size, config.accumulation, config.stop_window, self.backend.world)

    def used_prompts(self) -> list[str]:
        """Every prompt that the run will draw, on all processes, each once; captions of the pre-training loss among them."""
        drawn = [self.prompts[n] for n in self.draws.used_prompts(self.config.steps)]
        captions = list(self.captioned.prompts) if self.captioned is not None else []
        return list(dict.fromkeys([*drawn, *captions]))

    def of_update(self, update: int) -> tuple[Tensor, Tensor]:
        """The means of (reward, reward loss, prior loss, pre-training loss), (4,), and the last pictures, (B, 3, H, W)."""
        count = self.config.accumulation
        sums = torch.zeros(4)
        for micro in range(count):
            plan = self.draws.micro_batch(update, micro, self.backend.rank)
            with self.backend.accumulating(last=micro == count - 1):
                pretraining = self._pretrain(update, micro)
                result = rollout(
                    self.generator,
                    self.scorer,
                    self.tuning,
                    self.config,
                    self.sampling,
                    [self.prompts[n] for n in plan.prompts],
                    SampleNoise.of_seeds(plan.seeds),
                    plan.stop,
                    self._backward,
                    self.backend.loss_scale,
                )
            terms = (result.reward.mean(), result.reward_loss, result.prior_loss, pretraining)
            sums += torch.stack([term.float().cpu() for term in terms]) / count
        return sums, result.pixels

    def _pretrain(self, update: int, micro: int) -> Tensor:
        if self.captioned is None:
            return torch.zeros(())
        plan = self.pretraining_draws.micro_batch(update, micro, self.backend.rank)
        noise = SampleNoise.of_seeds(plan.seeds)
        pixels, prompts, where = self.captioned.batch(plan.prompts, self.sampling.width, self.sampling.height, noise)
        return pretrain(self.generator, self.config, pixels, prompts, where, noise, self._backward)

    def _backward(self, loss: Tensor) -> None:
        self.backend.backward(loss / self.config.accumulation)
