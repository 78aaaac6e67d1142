"""ReNO inside ComfyUI: a better start for a few-step model, as a LATENT and as a NOISE that the stock samplers take."""

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
from ...core.files.console import counted
from ...core.refl.generator import Sampling
from ...core.refl.randomness import SampleNoise, derive_seed
from ...core.refl.reno import Optimised, Settings, optimise_noise
from ..hosting import RewardModel
from ..pictures import to_picture
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
    prompts: Sequence[str]  # one for all pictures, or one each
    samples: Tensor  # (B, C, h, w): only its shape is read
    sampling: Sampling
    seed: int


@dataclass(frozen=True)
class FoundNoise:
    """NOISE, as ComfyUI's custom samplers ask for it."""

    seed: int
    noise: Tensor  # (B, C, h, w) float32 on the CPU

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        shape = tuple(latent["samples"].shape)
        if shape != tuple(self.noise.shape):
            raise ImageRewardError(
                f"The noise was found for latents of shape {tuple(self.noise.shape)}, but the sampler draws {shape}: connect "
                "the same latent to 'ImageReward Optimise Noise' and to the sampler."
            )
        return self.noise


def optimise(task: Task, settings: Settings) -> tuple[Tensor, FoundNoise, Optimised]:
    """(B, C, h, w) latents in the host's scale for a sampler that adds no noise; the noise; and how they came about.

    A flow model's sampler without noise begins at nothing, whatever the latents: those are empty then, and go with the noise.
    """
    count = len(task.samples)
    if len(task.prompts) not in (1, count):
        raise ImageRewardError(
            f"{counted(len(task.prompts), 'prompt')} for {counted(count, 'latent')}: give one for all, or one for each."
        )
    prompts = list(task.prompts) * count if len(task.prompts) == 1 else list(task.prompts)
    bar = comfy.utils.ProgressBar(settings.iterations + 1)

    def on_iteration(iteration: int, rewards: Tensor, pixels: Tensor) -> None:
        picture = to_picture(pixels[int(torch.nan_to_num(rewards, -torch.inf).argmax())])
        bar.update_absolute(iteration + 1, settings.iterations + 1, ("JPEG", picture, PREVIEW))
        model_management.throw_exception_if_processing_interrupted()

    with training_mode(), task.reward.scorer.lock, explained_memory(ADVICE):
        generator = ComfyGenerator(task.model, task.clip, task.vae, negative=task.negative, rewards=[task.reward])
        try:
            generator.precompute_embeddings([*dict.fromkeys(prompts), task.sampling.negative_prompt])
            generator.gradient_checkpointing(True)
            seeds = [derive_seed(task.seed, "noise", n) for n in range(count)]
            noise = SampleNoise.of_seeds(seeds).normal((generator.latent_channels, *task.samples.shape[2:]))
            found = optimise_noise(
                generator, task.reward.scorer, task.sampling, prompts, seeds, noise, settings, on_iteration
            )
            start = generator.patcher.model.process_latent_out(found.start).cpu()
            if generator.family.flow:
                start = torch.zeros_like(start)
            return start, FoundNoise(task.seed, found.noise.cpu()), found
        finally:
            generator.close()
