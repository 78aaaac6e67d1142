"""The tiny networks out of files, by loaders that work as the stock ones do: ComfyUI may call them once more."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import comfy.memory_management
import comfy.model_management as model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import safetensors.torch
import torch

from . import models


def write(folder: Path, seed: int, kind: str = "sd1", dtype: torch.dtype = torch.float32) -> dict[str, Path]:
    """The files of MODEL, CLIP and VAE, written once; `dtype`: of the MODEL's and the VAE's."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{kind}_{seed}_{str(dtype).removeprefix('torch.')}"
    files = {part: folder / f"{stem}_{part}.safetensors" for part in ("model", "clip", "vae")}
    if not all(file.exists() for file in files.values()):
        with _weights_that_stay():
            made = models.make_model(seed, kind), models.make_clip(seed), models.make_vae(seed, kind)
        networks = made[0].model.diffusion_model, made[1].cond_stage_model, made[2].first_stage_model
        for (part, file), network in zip(files.items(), networks, strict=True):
            weights = {name: one.detach().clone().contiguous() for name, one in network.state_dict().items()}
            if part != "clip":
                weights = {name: one.to(dtype) if one.is_floating_point() else one for name, one in weights.items()}
            safetensors.torch.save_file(weights, file)
    return files


@contextmanager
def _weights_that_stay():
    """Under dynamic VRAM a layer has no weight before one is read from a file."""
    memory, patchers = comfy.memory_management, comfy.model_patcher
    before = memory.aimdo_enabled, patchers.CoreModelPatcher
    memory.aimdo_enabled, patchers.CoreModelPatcher = False, patchers.ModelPatcher
    try:
        yield
    finally:
        memory.aimdo_enabled, patchers.CoreModelPatcher = before


def load_model(path: str, kind: str, disable_dynamic: bool = False):
    """After `comfy.sd.load_diffusion_model`; a network that computes in float32, whatever the file holds."""
    model = models.model_of(kind)
    make = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = make(
        model, load_device=model_management.get_torch_device(), offload_device=model_management.unet_offload_device()
    )
    model.load_model_weights(comfy.utils.load_torch_file(path), "", assign=patcher.is_dynamic())
    patcher.cached_patcher_init = (load_model, (path, kind))
    return patcher


def load_vae(path: str, kind: str):
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(path), config={"params": models.vae_parameters(kind)})
    vae.patcher.cached_patcher_init = (load_vae_patcher, (path, kind))
    return vae


def load_vae_patcher(path: str, kind: str, disable_dynamic: bool = False):
    """After the stock one, which does not heed `disable_dynamic` either."""
    return load_vae(path, kind).patcher


def load_clip(path: str):
    clip = models.empty_clip()
    clip.load_sd(comfy.utils.load_torch_file(path), full_model=True)
    return clip


def load(files: dict[str, Path], kind: str = "sd1"):
    """(MODEL, CLIP, VAE)."""
    with torch.inference_mode():  # as in a node
        return load_model(str(files["model"]), kind), load_clip(str(files["clip"])), load_vae(str(files["vae"]), kind)
