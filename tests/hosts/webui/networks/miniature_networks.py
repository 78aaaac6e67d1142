"""Read by AUTOMATIC1111, whose description of a checkpoint names these classes: its own, with 8 groups of channels in every
normalisation in place of 32."""

import ldm.modules.diffusionmodules.model as autoencoder
import torch
from ldm.models.autoencoder import AutoencoderKL
from ldm.modules.diffusionmodules.openaimodel import UNetModel

GROUPS = 8


class UNet(UNetModel):
    def __init__(self, **config):
        super().__init__(**config)
        for layer in self.modules():
            if isinstance(layer, torch.nn.GroupNorm):
                layer.num_groups = GROUPS


class Autoencoder(AutoencoderKL):
    def __init__(self, **config):
        usual = autoencoder.Normalize.__defaults__
        autoencoder.Normalize.__defaults__ = (GROUPS,)
        try:
            super().__init__(**config)
        finally:
            autoencoder.Normalize.__defaults__ = usual
