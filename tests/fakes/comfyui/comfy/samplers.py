"""Stand-in of `comfy.samplers`: two schedulers (one whose count of steps is odd), guidance, and the road through a sampler."""

from __future__ import annotations

import math
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

SAMPLER_NAMES = [
    "euler",
    "euler_ancestral",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_sde_gpu",
    "ddpm",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
]
SCHEDULER_NAMES = ["simple", "ddim_uniform"]
_Conds = list[dict[str, Any]]


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


class Sampler:
    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError

    def max_denoise(self, model_wrap: Any, sigmas: Tensor) -> bool:
        highest, first = float(model_wrap.inner_model.model_sampling.sigma_max), float(sigmas[0])
        return math.isclose(highest, first, rel_tol=1e-5) or first > highest


def sampling_function(
    model: Any,
    x: Tensor,
    timestep: Tensor,
    uncond: _Conds,
    cond: _Conds,
    cond_scale: float,
    model_options: dict[str, Any],
    seed: int | None = None,
) -> Tensor:
    """x0 with classifier-free guidance; without it the negative conditioning is not looked at."""
    positive = _predict(model, x, timestep, cond, model_options)
    if math.isclose(cond_scale, 1.0):
        return positive
    negative = _predict(model, x, timestep, uncond, model_options)
    return negative + (positive - negative) * cond_scale


def _predict(model: Any, x: Tensor, timestep: Tensor, cond: _Conds, model_options: dict[str, Any]) -> Tensor:
    """The mean over conditionings, as of prompts that share a picture."""
    found = []
    for one in cond:
        given = {name: part.process_cond(len(x)).cond for name, part in one["model_conds"].items()}
        given["transformer_options"] = model_options["transformer_options"]
        wrapper = model_options.get("model_function_wrapper")
        if wrapper is not None:
            call = {"input": x, "timestep": timestep, "c": given, "cond_or_uncond": [0]}
            found.append(wrapper(model.apply_model, call))
        else:
            found.append(model.apply_model(x, timestep, **given))
    return torch.stack(found).mean(0)


class CFGGuider:
    def __init__(self, model_patcher: ModelPatcher) -> None:
        self.model_patcher, self.model_options = model_patcher, model_patcher.model_options
        self.original_conds: dict[str, _Conds] = {}
        self.conds: dict[str, _Conds] = {}
        self.cfg = 1.0

    def set_conds(self, positive: Any, negative: Any) -> None:
        given = {"positive": positive, "negative": negative}
        self.original_conds = {
            kind: [{**options, "cross_attn": embeddings} for embeddings, options in conds]
            for kind, conds in given.items()
        }

    def set_cfg(self, cfg: float) -> None:
        self.cfg = cfg

    def __call__(self, x: Tensor, timestep: Tensor, model_options: Any = None, seed: int | None = None) -> Tensor:
        negative, positive = self.conds["negative"], self.conds["positive"]
        options = model_options or self.model_options
        return sampling_function(self.inner_model, x, timestep, negative, positive, self.cfg, options, seed)

    def sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Sampler,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Any = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        prepare = WrapperExecutor.new_executor(_load, self.model_patcher.get_all_wrappers(WrappersMP.PREPARE_SAMPLING))
        self.inner_model, conds, _ = prepare.execute(self.model_patcher, noise.shape, self.original_conds)
        height, width = (8 * side for side in noise.shape[2:])
        self.conds = {
            kind: [{"model_conds": self.inner_model.extra_conds(height=height, width=width, **one)} for one in given]
            for kind, given in conds.items()
        }
        extra = {"model_options": self.model_options, "seed": seed}
        try:
            samples = sampler.sample(
                self, sigmas, extra, callback, noise.float(), latent_image.float(), denoise_mask, disable_pbar
            )
            return self.inner_model.process_latent_out(samples.to(torch.float32))
        finally:
            self.conds = {}


def _load(model: ModelPatcher, noise_shape: Any, conds: Any) -> tuple[Any, Any, list[Any]]:
    import comfy.model_management

    comfy.model_management.load_models_gpu([model])
    return model.model, conds, []
