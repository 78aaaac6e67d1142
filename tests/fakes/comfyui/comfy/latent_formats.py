"""Stand-in of `comfy.latent_formats`."""

from __future__ import annotations

from torch import Tensor


class LatentFormat:
    scale_factor = 1.0
    latent_channels = 4

    def process_in(self, latent: Tensor) -> Tensor:
        return latent * self.scale_factor

    def process_out(self, latent: Tensor) -> Tensor:
        return latent / self.scale_factor


class SD15(LatentFormat):
    scale_factor = 0.18215


class SDXL(LatentFormat):
    scale_factor = 0.13025


class SD3(LatentFormat):
    scale_factor = 1.5305
    latent_channels = 16


class Flux(LatentFormat):
    scale_factor = 0.3611
    latent_channels = 16
