"""Between IMAGE tensors and PIL images, for what is written to a file or drawn. Scoring never comes here."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.pictures.resize import quantise


def to_picture(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB image with the bytes that ComfyUI's own Save Image writes."""
    return Image.fromarray(quantise(pixels).permute(1, 2, 0).contiguous().cpu().numpy())  # CHW -> HWC


def to_image(picture: Image.Image) -> Tensor:
    """RGB image -> IMAGE (1, H, W, 3) float32 in [0, 1]."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0).unsqueeze(0)
