"""ComfyUI's samplers and schedulers, a few steps at a time, with autograd where it is on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from comfy.k_diffusion import sampling as k_diffusion
from torch import Tensor

from ...core.errors import ImageRewardError
from ...core.files.console import counted
from ...core.refl.families import FLOW_TITLES

AUTO = "auto"
_PAPERS = ("ddpm", "ddim_uniform")  # together: the reference's DDPM at evenly spaced steps
_FOR_FLOWS = ("euler", "simple")
_NOT_STEPWISE = ("dpm_fast", "dpm_adaptive", "uni_pc", "uni_pc_bh2")  # they choose or spread their steps by themselves


def sampler_names() -> list[str]:
    return [name for name in comfy.samplers.SAMPLER_NAMES if name not in _NOT_STEPWISE and _function(name) is not None]


def scheduler_names() -> list[str]:
    return list(comfy.samplers.SCHEDULER_NAMES)


def choose(sampler: str, scheduler: str, flow: bool) -> tuple[str, str]:
    """The defaults of this kind of model in place of ""; raises for a sampler that does not work with flow models."""
    usual = _FOR_FLOWS if flow else _PAPERS
    sampler, scheduler = sampler or usual[0], scheduler or usual[1]
    if flow and sampler == "ddpm":
        raise ImageRewardError(
            f"The sampler 'ddpm' does not work with flow models ({FLOW_TITLES}): choose 'auto' or 'euler'."
        )
    return sampler, scheduler


def noise_levels(model_sampling: Any, sampler: str, scheduler: str, steps: int) -> Tensor:
    """(steps + 1,) float32, falling to 0. Of schedulers that give too many steps the last are taken; too few are refused."""
    if sampler in comfy.samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS:
        longer = comfy.samplers.calculate_sigmas(model_sampling, scheduler, steps + 1)
        sigmas = torch.cat([longer[:-2], longer[-1:]]).float()
    else:
        sigmas = comfy.samplers.calculate_sigmas(model_sampling, scheduler, steps).float().clone()
    if len(sigmas) > steps + 1:  # ddim_uniform, where the steps do not divide the model's thousand
        sigmas = sigmas[-(steps + 1) :]
    if len(sigmas) < steps + 1:
        raise ImageRewardError(
            f"The scheduler '{scheduler}' gives {counted(len(sigmas) - 1, 'step')} in place of {steps}: "
            f"choose another scheduler, or {len(sigmas) - 1} denoising steps."
        )
    return sigmas


def advance(
    sampler: str,
    model: Callable[..., Tensor],
    latents: Tensor,
    sigmas: Tensor,
    extra: dict[str, Any],
    draw: Callable[[], Tensor],
) -> Tensor:
    """Latents (B, C, h, w) at noise level sigmas[0] -> at sigmas[-1], by ComfyUI's sampler of that name.

    `model` predicts x0; some samplers also look for its `inner_model`, the host's guider. `draw` gives the
    noise of stochastic samplers, so that nothing random comes from elsewhere.
    """
    function = _function(sampler)
    if function is None:
        raise ImageRewardError(f"No sampler '{sampler}' can run step by step. There are: {', '.join(sampler_names())}.")
    options: dict[str, Any] = {"extra_args": extra, "disable": True}
    if "noise_sampler" in inspect.signature(function).parameters:
        options["noise_sampler"] = lambda sigma, sigma_next: draw().to(latents)
    if not torch.is_grad_enabled():
        return function(model, latents, sigmas, **options)
    # The functions are decorated with no_grad; what they decorate is differentiable.
    result = inspect.unwrap(function)(model, latents, sigmas, **options)
    if not result.requires_grad:
        raise ImageRewardError(
            f"The sampler '{sampler}' lets no gradient through its steps: take 'euler' or 'ddpm', or set gradient_steps to 1."
        )
    return result


def _function(name: str) -> Callable[..., Tensor] | None:
    return getattr(k_diffusion, "sample_euler" if name == "ddim" else f"sample_{name}", None)
