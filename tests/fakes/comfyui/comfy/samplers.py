"""Stand-in of `comfy.samplers`: names, and the one scheduler whose count of steps is odd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SAMPLER_NAMES = ["euler", "euler_ancestral", "dpm_fast", "dpm_adaptive", "ddpm", "ddim", "uni_pc", "uni_pc_bh2"]
SCHEDULER_NAMES = ["simple", "ddim_uniform"]


def calculate_sigmas(model_sampling: Any, scheduler_name: str, steps: int) -> Tensor:
    """`model_sampling.sigmas`: rising levels of the model's steps, as in the host."""
    sigmas = model_sampling.sigmas
    if scheduler_name == "ddim_uniform":
        spacing = max(len(sigmas) // steps, 1)
        return torch.tensor([*sigmas[1::spacing].tolist()[::-1], 0.0])
    spaced = len(sigmas) / steps
    return torch.tensor([*(float(sigmas[-(1 + int(i * spaced))]) for i in range(steps)), 0.0])


class KSampler:
    DISCARD_PENULTIMATE_SIGMA_SAMPLERS = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})
