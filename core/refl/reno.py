"""ReNO: improve the initial noise of a one-step or few-step model by the gradient of a reward (arXiv 2406.04312)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..scorers.base import Scorer
from ..training.settings import expect_kind, expect_range
from .generator import Denoiser, Generator, Sampling
from .randomness import SampleNoise
from .reward_gradient import decode_and_score, reward_gradient


@dataclass(frozen=True)
class Settings:
    """Defaults are the paper's (section 4, and its code): gradient ascent with Nesterov momentum on the noise."""

    iterations: int = 50
    learning_rate: float = 5.0
    momentum: float = 0.9
    clip: float = 0.1  # norm to which each picture's gradient is clipped
    regularisation: float = 0.01  # weight of keeping the noise's norm where that of normal noise lies

    def __post_init__(self) -> None:
        for each in fields(self):
            expect_kind(each, getattr(self, each.name))
        expect_range("iterations", self.iterations, 1)
        expect_range("learning_rate", self.learning_rate, 0, open_low=True)
        expect_range("momentum", self.momentum, 0, 1)
        expect_range("clip", self.clip, 0, open_low=True)
        expect_range("regularisation", self.regularisation, 0)


@dataclass(frozen=True)
class Optimised:
    noise: Tensor  # (B, C, h, w) float32 on the CPU: of each picture, the noise with the highest reward
    # (B, C, h, w): the latents that noise gives before the first step, in the sampler's scale, on the CPU.
    start: Tensor
    pixels: Tensor  # (B, 3, H, W) in 0..1: the pictures drawn from it
    first: Tensor  # (B, 3, H, W): the pictures of the noise that came in
    rewards: Tensor  # (iterations + 1, B): of each iteration, the first one before any change


class GivenNoise(SampleNoise):
    """Begins with a given noise (B, C, h, w); what a stochastic sampler draws after that comes from the seeds."""

    def __init__(self, start: Tensor, seeds: Sequence[int]) -> None:
        super().__init__([torch.Generator().manual_seed(seed) for seed in seeds])
        self._start: Tensor | None = start

    def normal(self, shape: Sequence[int]) -> Tensor:
        start, self._start = self._start, None
        return super().normal(shape) if start is None else start


def optimise_noise(
    generator: Generator,
    scorer: Scorer,
    sampling: Sampling,
    prompts: Sequence[str],
    seeds: Sequence[int],
    noise: Tensor,
    settings: Settings | None = None,
    on_iteration: Callable[[int, Tensor, Tensor], None] = lambda iteration, rewards, pixels: None,
) -> Optimised:
    """`noise` (B, C, h, w) -> a better one for each of B prompts. Pictures do not touch one another.

    `on_iteration(iteration, rewards (B,), pixels (B, 3, H, W))` is called after each; raising from it stops.
    """
    settings = settings or Settings()
    current = noise.detach().clone().requires_grad_(True)
    optimizer = torch.optim.SGD([current], settings.learning_rate, momentum=settings.momentum, nesterov=True)
    history: list[Tensor] = []
    best: dict[str, Tensor] = {}
    first = torch.empty(0)

    def rollout(denoiser: Denoiser) -> tuple[Tensor, Tensor, Tensor]:
        start = denoiser.start()
        latents = denoiser.advance(start, 0, sampling.steps)
        if torch.is_grad_enabled():
            scored = reward_gradient(generator, scorer, latents, prompts, lambda rewards: -rewards.sum())
            pixels, rewards = scored.pixels, scored.rewards
            penalty = settings.regularisation * norm_penalty(current).sum()
            torch.autograd.backward((scored.gradient * latents).sum() + penalty.to(latents.device))
        else:
            pixels, rewards = decode_and_score(generator, scorer, latents, prompts)
        return start.detach().cpu(), pixels.cpu(), rewards.float().cpu()

    for iteration in range(settings.iterations + 1):
        optimizer.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(iteration < settings.iterations):  # the last iteration only scores
            start, pixels, rewards = generator.denoise(prompts, sampling, GivenNoise(current, seeds), rollout)
        first = pixels if iteration == 0 else first
        history.append(rewards)
        _keep_better(best, {"noise": current.detach(), "start": start, "pixels": pixels, "rewards": rewards})
        on_iteration(iteration, rewards, pixels)
        if iteration < settings.iterations:
            _clip_each(current, settings.clip)
            optimizer.step()
    return Optimised(best["noise"], best["start"], best["pixels"], first, torch.stack(history))


def norm_penalty(noise: Tensor) -> Tensor:
    """(B,): minus the log-density of the norm of normal noise, |e|^2 / 2 - (d - 1) log |e| (arXiv 2406.04312, eq. 5)."""
    flat = noise.flatten(1)
    norm = torch.linalg.vector_norm(flat, dim=1)
    return norm.square() / 2 - (flat.shape[1] - 1) * norm.log()


def _keep_better(best: dict[str, Tensor], now: dict[str, Tensor]) -> None:
    """Row by row; a NaN reward is better than nothing and worse than any number."""
    if not best:
        best.update({name: tensor.clone() for name, tensor in now.items()})
        return
    better = (now["rewards"] > best["rewards"]) | (best["rewards"].isnan() & ~now["rewards"].isnan())
    for name, tensor in now.items():
        best[name][better] = tensor[better]


def _clip_each(noise: Tensor, limit: float) -> None:
    """Each picture's gradient to the limit; one that is not finite leaves its picture alone."""
    assert noise.grad is not None
    norms = torch.linalg.vector_norm(noise.grad.flatten(1), dim=1)
    factor = torch.where(torch.isfinite(norms), (limit / norms.clamp(min=1e-12)).clamp(max=1.0), torch.zeros(()))
    noise.grad = torch.nan_to_num(noise.grad, 0.0, 0.0, 0.0) * factor.view(-1, 1, 1, 1)
