"""From clean latents to rewards and back: the half of an update in which the denoising network has nothing to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scorers.base import Scorer
from .generator import Generator


@dataclass(frozen=True)
class RewardGradient:
    """Pictures and what they earned; everything detached."""

    pixels: Tensor  # (B, 3, H, W) in 0..1
    rewards: Tensor  # (B,) float32: the raw reward of each picture
    loss: Tensor
    gradient: Tensor  # (B, C, h, w) float32: d loss / d latents


def decode_and_score(
    generator: Generator, scorer: Scorer, latents: Tensor, prompts: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """The pictures (B, 3, H, W) of clean latents (B, C, h, w), and their scores (B,). Differentiable."""
    generator.bring_scorer(scorer)
    pixels = generator.decode(latents)
    return pixels, scorer.score(pixels, [generator.plain(prompt) for prompt in prompts])


def reward_gradient(
    generator: Generator,
    scorer: Scorer,
    latents: Tensor,
    prompts: Sequence[str],
    loss_of: Callable[[Tensor], Tensor],
    loss_scale: float = 1.0,
) -> RewardGradient:
    """Decode latents (B, C, h, w), score them for `prompts`, and take the gradient of `loss_of(rewards)` to the latents.

    The chain rule cut in two: `(gradient * latents).sum()` has the gradients that the loss has. The activations of decoder
    and scorer are gone before the network's backward pass begins, and its weights may be away while those are needed.
    loss_scale: what the loss is multiplied by on its way back, and the gradient divided by, so that nothing vanishes in
        float16.
    """
    seen = latents.detach().requires_grad_()
    with torch.enable_grad():
        pixels, rewards = decode_and_score(generator, scorer, seen, prompts)
        loss = loss_of(rewards)
    (gradient,) = torch.autograd.grad(loss * loss_scale, seen)
    generator.bring_network()
    return RewardGradient(pixels.detach(), rewards.detach().float(), loss.detach(), gradient.float() / loss_scale)
