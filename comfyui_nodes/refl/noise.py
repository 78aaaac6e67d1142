"""ReNO inside ComfyUI: a better start for a few-step model, as a LATENT that the stock samplers take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...core.errors import ImageRewardError
from ...core.refl.generator import Sampling
from ...core.refl.randomness import SampleNoise, derive_seed
from ...core.refl.reno import Optimised, Settings, optimise_noise
from ..hosting import RewardModel
from ..pictures import to_picture
from . import families
from .conditioning import Conditioning
from .generator import ComfyGenerator
from .memory import explained_memory, training_mode

ADVICE = (
    "take a smaller latent or fewer 'steps' (each adds to the memory), or load the reward model in fp16. One-step models "
    "(turbo, lightning) are what this method is for"
)
PREVIEW = 512  # pixels


@dataclass(frozen=True)
class Task:
    model: ModelPatcher
    clip: Any
    vae: Any
    reward: RewardModel
    negative: Conditioning | None
    prompts: Sequence[str]
    """One for all pictures, or one each."""
    samples: Tensor
    """(B, C, h, w): only its shape is read."""
    sampling: Sampling
    seed: int


def optimise(task: Task, settings: Settings) -> tuple[Tensor, Optimised]:
    """(B, C, h, w) latents in the host's scale, for a sampler that adds no noise; and how they came about."""
    if families.is_flow(task.model.model):
        raise ImageRewardError(
            f"{type(task.model.model).__name__} is a flow model, whose samplers cannot begin at a LATENT without noise. "
            "Take SD1.x, SD2.x or SDXL, or one of their turbo and lightning versions."
        )
    count = len(task.samples)
    if len(task.prompts) not in (1, count):
        raise ImageRewardError(f"{len(task.prompts)} prompts for {count} latents: give one for all, or one for each.")
    prompts = list(task.prompts) * count if len(task.prompts) == 1 else list(task.prompts)
    bar = comfy.utils.ProgressBar(settings.iterations + 1)

    def on_iteration(iteration: int, rewards: Tensor, pixels: Tensor) -> None:
        picture = to_picture(pixels[int(torch.nan_to_num(rewards, -torch.inf).argmax())])
        bar.update_absolute(iteration + 1, settings.iterations + 1, ("JPEG", picture, PREVIEW))
        model_management.throw_exception_if_processing_interrupted()

    with training_mode(), task.reward.scorer.lock, explained_memory(ADVICE):
        generator = ComfyGenerator(task.model, task.clip, task.vae, negative=task.negative, rewards=[task.reward])
        try:
            generator.remember([*dict.fromkeys(prompts), task.sampling.negative_prompt])
            generator.gradient_checkpointing(True)
            seeds = [derive_seed(task.seed, "noise", n) for n in range(count)]
            noise = SampleNoise.of_seeds(seeds).normal(task.samples.shape[1:])
            found = optimise_noise(
                generator, task.reward.scorer, task.sampling, prompts, seeds, noise, settings, on_iteration
            )
            return generator.patcher.model.process_latent_out(found.start).cpu(), found
        finally:
            generator.close()
