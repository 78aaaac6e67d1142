"""Stand-in of `comfy.k_diffusion.sampling`: four samplers, decorated as the host's are."""

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
def sample_ddpm(
    model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, disable: Any = None, noise_sampler: Any = None
) -> Tensor:
    """Ancestral sampling of arXiv 2006.11239, between any two of its steps."""
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones([x.shape[0]]), **(extra_args or {}))
        before, after = (1 / (1 + sigmas[j] ** 2) for j in (i, i + 1))
        alpha, noise = before / after, (x - denoised) / sigmas[i]
        x = (x * before.sqrt() - (1 - alpha) * noise / (1 - before).sqrt()) / alpha.sqrt()
        if sigmas[i + 1] > 0:
            spread = ((1 - alpha) * (1 - after) / (1 - before)).sqrt()
            x = (x + spread * noise_sampler(sigmas[i], sigmas[i + 1])) / after.sqrt()
    return x


@torch.no_grad()
def sample_dpmpp_sde_gpu(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, disable: Any = None) -> Tensor:
    """Decorated once more below the decoration: unwrapping the outer one gives no gradient."""
    return torch.no_grad()(sample_euler)(model, x, sigmas, extra_args)
