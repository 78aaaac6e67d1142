"""One rollout from noise to reward and back: what ReFL does between two backward passes (algorithm 1, arXiv 2304.05977)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scorers.base import Scorer
from .config import ReflConfig
from .generator import Denoiser, Generator, Sampling
from .losses import pretraining_loss, prior_loss, reward_loss
from .randomness import SampleNoise
from .reward_gradient import reward_gradient
from .tuning import Tuning


@dataclass(frozen=True)
class Rollout:
    """What one rollout gave; everything detached."""

    reward: Tensor  # (B,) float32: the raw reward of each picture
    reward_loss: Tensor
    prior_loss: Tensor
    pixels: Tensor  # (B, 3, H, W) in 0..1


def rollout(
    generator: Generator,
    scorer: Scorer,
    tuning: Tuning,
    config: ReflConfig,
    sampling: Sampling,
    prompts: Sequence[str],
    noise: SampleNoise,
    stop: int,
    backward: Callable[[Tensor], None],
    loss_scale: float = 1.0,
) -> Rollout:
    """Denoise to step `stop` (the last K - 1 steps with gradient), predict x0 there, score it, and call `backward`.

    What `backward` gets has the loss's gradients and not its value (see `reward_gradient`, also for `loss_scale`). It runs
    inside the rollout, while the host still holds everything that recomputation needs.
    """
    first = stop - (config.gradient_steps - 1)

    def body(denoiser: Denoiser) -> Rollout:
        with torch.no_grad():
            latents = denoiser.advance(denoiser.start(), 0, first)
        with torch.enable_grad():
            latents = denoiser.advance(latents, first, stop)
            x0 = denoiser.x0(latents, stop)
            prior = torch.zeros((), device=x0.device)
            if config.prior_weight > 0:
                with torch.no_grad(), tuning.at(0):
                    untuned = denoiser.x0(latents, stop)
                prior = prior_loss(x0, untuned, denoiser.signal_to_noise(stop))
            scored = reward_gradient(generator, scorer, x0, prompts, loss_of, loss_scale)
            backward((scored.gradient * x0).sum() + config.prior_weight * prior)
        return Rollout(scored.rewards.cpu(), scored.loss, prior.detach(), scored.pixels)

    def loss_of(rewards: Tensor) -> Tensor:
        return reward_loss(rewards, config.threshold, config.scale)

    return generator.denoise(prompts, sampling, noise, body)


def pretrain(
    generator: Generator,
    config: ReflConfig,
    pixels: Tensor,
    prompts: Sequence[str],
    micro_conditioning: Sequence[Sequence[int]],
    noise: SampleNoise,
    backward: Callable[[Tensor], None],
) -> Tensor:
    """The pre-training loss on captioned images, as the reference's SDXL trainers add it; scalar, detached."""
    with torch.no_grad():
        latents = generator.encode(pixels, noise)
    terms = generator.pretraining_terms(latents, prompts, noise, micro_conditioning)
    prediction, target, snr, velocity = terms
    loss = pretraining_loss(prediction, target, snr, config.snr_gamma, velocity)
    backward(config.pretraining_weight * loss)
    return loss.detach()


@torch.no_grad()
def draw(generator: Generator, sampling: Sampling, prompts: Sequence[str], noise: SampleNoise) -> Tensor:
    """The finished latents, all steps, no gradient: (B, C, h, w) float32."""

    def body(denoiser: Denoiser) -> Tensor:
        return denoiser.advance(denoiser.start(), 0, sampling.steps)

    return generator.denoise(prompts, sampling, noise, body)
