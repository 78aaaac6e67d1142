"""Stand-in of `comfy.k_diffusion.sampling`: three samplers, decorated as the host's are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def sample_euler(
    model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None
) -> Tensor:
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones([x.shape[0]]), **(extra_args or {}))
        x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
    return x


@torch.no_grad()
def sample_euler_ancestral(
    model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, disable: Any = None, noise_sampler: Any = None
) -> Tensor:
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones([x.shape[0]]), **(extra_args or {}))
        x = denoised + sigmas[i + 1] * noise_sampler(sigmas[i], sigmas[i + 1])
    return x


@torch.no_grad()
def sample_ddpm(model: Any, x: Tensor, sigmas: Tensor, **options: Any) -> Tensor:
    """Decorated once more below the decoration: unwrapping the outer one gives no gradient."""
    return torch.no_grad()(sample_euler)(model, x, sigmas, options.get("extra_args"))
