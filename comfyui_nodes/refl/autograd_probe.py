"""Asks a model for a gradient before a run relies on one: some of ComfyUI's kernels are fast and have none."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as model_management
import torch

from ...core.errors import ImageRewardError
from ...core.refl.generator import Denoiser, Sampling
from ...core.refl.lora import Lora
from ...core.refl.randomness import SampleNoise
from .generator import ComfyGenerator

SMALL = 8  # times the smallest size


def expect_gradients(generator: ComfyGenerator, lora: Lora, sampling: Sampling, prompt: str, step: int) -> None:
    """One prediction of x0 at a small size and its backward pass; refuse the model if a LoRA layer gets no gradient."""
    kind = type(generator.patcher.model).__name__
    side = min(SMALL * generator.sizes_divide_by, sampling.width, sampling.height)
    side = max(side // generator.sizes_divide_by, 1) * generator.sizes_divide_by

    def rollout(denoiser: Denoiser) -> None:
        torch.autograd.backward(denoiser.x0(denoiser.start(), step).square().mean())

    try:
        generator.denoise([prompt], replace(sampling, width=side, height=side), SampleNoise.of_seeds([0]), rollout)
    except model_management.OOM_EXCEPTION:
        raise
    except (RuntimeError, NotImplementedError) as error:
        raise ImageRewardError(
            f"This ComfyUI cannot train {kind}: a step of its network has no gradient ({str(error).splitlines()[0]}). "
            "Switch off attention or weight extensions on this MODEL, or load it unquantised (not GGUF, not fp8)."
        ) from error
    without = [name for name, layer in lora.items() if all(p.grad is None for p in layer.parameters())]
    broken = [
        name
        for name, layer in lora.items()
        if any(p.grad is not None and p.grad.isnan().any() for p in layer.parameters())
    ]
    for parameter in lora.parameters():
        parameter.grad = None
    if without:
        raise ImageRewardError(
            f"This ComfyUI cannot train {kind}: {len(without)} of {len(lora.names)} LoRA layers get no gradient (such as "
            f"{without[0]}), because a kernel between them and the picture has none."
        )
    if broken:
        raise ImageRewardError(
            f"{kind} gives a gradient that is not a number in {len(broken)} of {len(lora.names)} LoRA layers (such as "
            f"{broken[0]}): set 'dtype' to bf16 or fp32."
        )
