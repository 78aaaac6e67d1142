"""The pixel statistics that CLIP was trained with; BLIP, ImageReward and every CLIP scorer use them."""

from __future__ import annotations

import torch
from torch import Tensor

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def normalise(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> zero mean and unit variance a channel, by CLIP's statistics."""
    mean = torch.tensor(PIXEL_MEAN, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    return (pixels - mean) / std
