"""Stand-in of `comfy.model_sampling`: noise levels, and what a network's output means at them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def reshape_sigma(sigma: Tensor, noise_dim: int) -> Tensor:
    """(B,) -> (B, 1, 1, 1); a single level stays one."""
    return sigma if sigma.nelement() == 1 else sigma.view(-1, *[1] * (noise_dim - 1))


class EPS:
    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        return noise / (reshape_sigma(sigma, noise.ndim) ** 2 + 1) ** 0.5

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return model_input - model_output * reshape_sigma(sigma, model_output.ndim)

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        sigma = reshape_sigma(sigma, noise.ndim)
        return latent_image + noise * (torch.sqrt(1 + sigma**2) if max_denoise else sigma)

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        return latent


class V_PREDICTION(EPS):  # noqa: N801, the host's name
    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        sigma = reshape_sigma(sigma, model_output.ndim)
        return model_input / (sigma**2 + 1) - model_output * sigma / (sigma**2 + 1) ** 0.5


class CONST:
    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        return noise

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return model_input - model_output * reshape_sigma(sigma, model_output.ndim)

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        sigma = reshape_sigma(sigma, noise.ndim)
        return sigma * noise + (1 - sigma) * latent_image

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        return latent / (1 - reshape_sigma(sigma, latent.ndim))


class _Levels(nn.Module):
    """`sigmas`: the noise levels, rising."""

    sigmas: Tensor

    @property
    def sigma_min(self) -> Tensor:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        return self.sigmas[-1]


class ModelSamplingDiscrete(_Levels):
    def __init__(self, model_config: Any = None) -> None:
        super().__init__()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        kept = torch.cumprod(1 - betas, dim=0)
        self.register_buffer("sigmas", ((1 - kept) / kept).sqrt().float())

    def timestep(self, sigma: Tensor) -> Tensor:
        return (sigma.log() - self.sigmas.log()[:, None]).abs().argmin(dim=0).view(sigma.shape)


class ModelSamplingDiscreteFlow(_Levels):
    def __init__(self, model_config: Any = None) -> None:
        super().__init__()
        self.shift = model_config.sampling_settings.get("shift", 1.0)
        self.register_buffer("sigmas", self.sigma(torch.arange(1, 1001).float()))

    def timestep(self, sigma: Tensor) -> Tensor:
        return 1000 * sigma

    def sigma(self, timestep: Tensor) -> Tensor:
        share = timestep / 1000
        return self.shift * share / (1 + (self.shift - 1) * share)


class ModelSamplingFlux(_Levels):
    def __init__(self, model_config: Any = None) -> None:
        super().__init__()
        self.shift = model_config.sampling_settings.get("shift", 1.15)
        self.register_buffer("sigmas", self.sigma(torch.arange(1, 10001) / 10000))

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma

    def sigma(self, timestep: Tensor) -> Tensor:
        return math.exp(self.shift) / (math.exp(self.shift) + 1 / timestep - 1)
