"""Stand-in of `comfy.ldm.modules.diffusionmodules.util`."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def timestep_embedding(timesteps: Tensor, dim: int) -> Tensor:
    """Cosines and sines (B, dim) of (B,)."""
    rates = torch.exp(-math.log(10000) * torch.arange(dim // 2) / (dim // 2))
    angles = timesteps[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)
