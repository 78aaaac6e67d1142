"""What is checked before a run begins: a mistake found here costs seconds, one found later costs hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import ImageRewardError
from ..scorers.base import Scorer
from .config import ReflConfig
from .generator import Generator, Sampling


def check_scorers(scorer: Scorer, held_out: Sequence[Scorer]) -> None:
    """Refuse a reward without a gradient, and a held-out scorer that is the reward or a component of it."""
    for other in held_out:
        if any(other is one for one in (scorer, *scorer.members)):
            role = (
                "the reward model itself"
                if other is scorer
                else f"a component of the reward model '{scorer.info.name}'"
            )
            raise ImageRewardError(
                f"'held_out' is {role}, and the guard needs a scorer that training does not see, got '{other.info.name}': "
                f"choose another one"
            )
    check_scorer(scorer)


def check_scorer(scorer: Scorer) -> None:
    """Refuse a scorer whose score has no gradient to the pixels, by asking it for one."""
    side = scorer.input_size or 64
    ramp = torch.linspace(0.2, 0.8, side, device=scorer.device)
    pixels = torch.stack([ramp.expand(side, side), ramp.expand(side, side).T, ramp.flip(0).expand(side, side)])[None]
    with torch.inference_mode(False), torch.enable_grad():
        pixels = pixels.clone().requires_grad_(True)
        try:
            score = scorer.score(pixels, ["a picture"])
            (gradient,) = torch.autograd.grad(score.sum(), pixels)
        except RuntimeError as error:
            raise ImageRewardError(
                f"scorer '{scorer.info.name}' has no gradient to the pixels, so it cannot be the reward ({error}): "
                f"take one that is differentiable (imagereward scorers lists them)"
            ) from error
    if not torch.isfinite(gradient).all() or not gradient.any():
        raise ImageRewardError(
            f"scorer '{scorer.info.name}' has {'no finite' if gradient.any() else 'a zero'} gradient to the pixels: "
            f"nothing could be learnt from it; take another reward"
        )


def sampling_of(generator: Generator, config: ReflConfig) -> Sampling:
    """How this run draws; sizes that the model cannot draw are refused."""
    width, height = (value or generator.native_resolution for value in (config.width, config.height))
    unit = generator.sizes_divide_by
    if width % unit or height % unit:
        fitting = f"{max(1, round(width / unit)) * unit} x {max(1, round(height / unit)) * unit}"
        raise ImageRewardError(
            f"pictures are to be {width} x {height}, but this model draws multiples of {unit}: choose {fitting}"
        )
    return Sampling(
        width=width,
        height=height,
        steps=config.denoising_steps,
        sampler=config.sampler,
        scheduler=config.scheduler,
        guidance=config.guidance,
        negative_prompt=config.negative_prompt,
    )


def evaluation_sampling_of(generator: Generator, config: ReflConfig) -> Sampling:
    """How this run draws the pictures that it is judged by: as in training, at the guidance that people draw with."""
    guidance = generator.family.guidance if config.evaluation_guidance is None else config.evaluation_guidance
    return replace(sampling_of(generator, config), guidance=guidance)
