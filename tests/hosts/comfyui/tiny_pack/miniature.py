"""The networks of examples/miniature, so that the stock loader takes their checkpoint as one of Stable Diffusion 1.

A checkpoint tells neither sizes of the VAE and the text encoder nor how many groups of channels are normalised together.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import ClassVar

import comfy.ldm.modules.diffusionmodules.model as autoencoder
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import torch

from . import models

WIDTH, GROUPS = 64, 8
TEXT = {**models.TEXT, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 1}
VAE = {**models.VAE, "z_channels": 4, "resolution": 64, "ch": 8, "ch_mult": [1, 2, 4, 4]}


class MiniatureClipModel(models.TinyClipModel):
    sizes = TEXT


class MiniatureClip(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=MiniatureClipModel)


class Miniature(comfy.supported_models.SD15):
    unet_config: ClassVar = {**comfy.supported_models.SD15.unet_config, "context_dim": WIDTH, "model_channels": 32}
    unet_extra_config: ClassVar = {"num_heads": 4, "num_head_channels": -1}

    def get_model(self, state_dict, prefix="", device=None):
        model = super().get_model(state_dict, prefix, device)
        for layer in model.diffusion_model.modules():
            if isinstance(layer, torch.nn.GroupNorm):
                layer.num_groups = GROUPS
        return model

    def clip_target(self, state_dict=None):
        return comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, MiniatureClip)


def install() -> None:
    comfy.supported_models.models.append(Miniature)
    usual = comfy.sd.VAE.__init__

    def init(self, sd=None, *others, config=None, **more):
        if config is None and sd and _is_ours(sd):
            with _groups():
                usual(self, sd, *others, config={"params": {"embed_dim": 4, "ddconfig": dict(VAE)}}, **more)
        else:
            usual(self, sd, *others, config=config, **more)

    comfy.sd.VAE.__init__ = init


def _is_ours(sd) -> bool:
    first = sd.get("encoder.conv_in.weight")
    return first is not None and len(first) == VAE["ch"]


@contextmanager
def _groups():
    """Not another function in its place: layers hold it as a default."""
    normalize = autoencoder.Normalize
    usual = normalize.__defaults__
    normalize.__defaults__ = (GROUPS,)
    try:
        yield
    finally:
        normalize.__defaults__ = usual
