"""The prompts, pictures and pixels of tests/goldens/drop_in.json, the same bits everywhere."""

from __future__ import annotations

import numpy as np
import torch
from parity_cases import noise
from PIL import Image
from torch import Tensor

PROMPTS = ("a red cat", "a painting of an ocean with clouds", "castle, night.")


def pictures() -> list[Image.Image]:
    """Three of unequal size."""
    return [Image.fromarray(noise(name, width, height, 3)) for name, width, height in
            (("one", 300, 200), ("two", 224, 224), ("three", 256, 400))]  # fmt: skip


def pixels() -> Tensor:
    """(3, 3, 224, 224) float32, as normalised pixels lie."""
    stream = np.random.PCG64(np.random.SeedSequence(11)).random_raw(3 * 3 * 224 * 224)
    raw = (stream >> np.uint64(56)).astype(np.float32) / np.float32(64) - np.float32(2)
    return torch.from_numpy(raw.reshape(3, 3, 224, 224))
