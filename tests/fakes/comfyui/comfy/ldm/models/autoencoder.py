"""Stand-in of `comfy.ldm.models.autoencoder`: it decodes."""

from __future__ import annotations

from typing import Any

from comfy.ldm.modules.diffusionmodules.model import Decoder
from comfy.ops import manual_cast as ops
from torch import Tensor, nn


class AutoencoderKL(nn.Module):
    def __init__(self, embed_dim: int, **kwargs: Any) -> None:
        super().__init__()
        self.post_quant_conv = ops.Conv2d(embed_dim, embed_dim, 1)
        self.decoder = Decoder(**kwargs["ddconfig"])

    def decode(self, z: Tensor, **kwargs: Any) -> Tensor:
        return self.decoder(self.post_quant_conv(z))
