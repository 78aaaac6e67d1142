"""Four comparisons that a formula makes, for the reference's training code and ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

#: Sizes of the checkpoint: real depths, since the reference's freezing rule counts on them; all else tiny.
SIZES = {"vision_width": 64, "vision_depth": 24, "patch": 16, "image_size": 32, "text_width": 64, "text_depth": 12}
SEED = 7
PROMPTS = (
    "a painting of an ocean with clouds and birds",
    "cat",
    "",
    "a realistic portrait of a woman with a red dragon, " * 6,  # over 35 tokens
)


def picture(number: int) -> Image.Image:
    """RGB, not square, not the size of the network."""
    y, x, channel = np.mgrid[0:48, 0:40, 0:3]
    values = (x * (3 + number) + y * (7 * number + 1) + channel * 61 + x * y * number // 8) % 256
    return Image.fromarray(values.astype(np.uint8))


def pictures() -> tuple[list[Image.Image], list[Image.Image]]:
    """(better, worse) of each comparison."""
    return [picture(2 * i) for i in range(len(PROMPTS))], [picture(2 * i + 1) for i in range(len(PROMPTS))]


def names_digest(names: Iterable[str]) -> str:
    """Of a set of parameters, whatever their order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
