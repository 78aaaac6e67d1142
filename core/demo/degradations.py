"""Ways in which a picture is spoilt, each with a strength: what the `technical` scorer must notice, and what the demo shows.

Every function takes an RGB picture and gives a new one of the same size; all are deterministic.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter, ImageOps


def blur(image: Image.Image, radius: float) -> Image.Image:
    """Out of focus: a Gaussian of `radius` pixels (standard deviation)."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def crush_contrast(image: Image.Image, keep: float) -> Image.Image:
    """Greyed out: every value drawn towards middle grey until only the share `keep` (0..1) of the contrast is left."""
    table = _to_levels(0.5 + (np.arange(256) / 255.0 - 0.5) * keep)
    return image.convert("RGB").point(table * 3)


def posterise(image: Image.Image, bits: float) -> Image.Image:
    """Banded: `bits` (1..7) per channel."""
    return ImageOps.posterize(image, int(bits))


def expose(image: Image.Image, stops: float) -> Image.Image:
    """Over- (`stops` > 0) or underexposed (< 0): linear light times 2 ** stops, clipped at white."""
    table = _to_levels(_to_display(_to_linear(np.arange(256) / 255.0) * 2.0**stops))
    return image.convert("RGB").point(table * 3)


def add_noise(image: Image.Image, sigma: float) -> Image.Image:
    """Sensor noise: Gaussian, independent in each channel, standard deviation `sigma` of 255 levels."""
    levels = np.asarray(image.convert("RGB"), dtype=np.float64)
    noisy = levels + np.random.RandomState(0).normal(0.0, sigma, levels.shape)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: float) -> Image.Image:
    """Blocky: once through baseline JPEG of `quality` (1..95)."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(quality))
    buffer.seek(0)
    blocky: Image.Image = Image.open(buffer).convert("RGB")
    return blocky


def blacken(image: Image.Image, share: float) -> Image.Image:
    """Broken off: the lower `share` (0..1) of the picture is black, as after a failed decode; 1 leaves nothing."""
    broken = image.copy()
    top = image.height - round(image.height * share)
    broken.paste((0, 0, 0), (0, top, image.width, image.height))
    return broken


@dataclass(frozen=True)
class Degradation:
    """One way to spoil a picture, with its strengths from mild to strong."""

    name: str
    apply: Callable[[Image.Image, float], Image.Image]
    strengths: tuple[float, ...]


DEGRADATIONS: tuple[Degradation, ...] = (
    Degradation("blurred", blur, (0.75, 1.5, 3.0, 6.0)),
    Degradation("low contrast", crush_contrast, (0.75, 0.5, 0.25, 0.1)),
    Degradation("posterised", posterise, (5, 4, 3, 2, 1)),
    Degradation("overexposed", expose, (1.0, 2.0, 3.0)),
    Degradation("underexposed", expose, (-1.0, -2.0, -4.0)),
    Degradation("noisy", add_noise, (6, 12, 25, 50)),
    Degradation("JPEG blocks", jpeg, (50, 30, 15, 5)),
    Degradation("black", blacken, (0.25, 0.5, 0.75, 1.0)),
)


def _to_levels(display: np.ndarray) -> list[int]:
    """A curve through the 256 levels as the look-up table that `Image.point` takes."""
    return [int(level) for level in np.rint(np.clip(display, 0.0, 1.0) * 255.0)]


def _to_linear(display: np.ndarray) -> np.ndarray:
    """sRGB's transfer function undone (IEC 61966-2-1)."""
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def _to_display(linear: np.ndarray) -> np.ndarray:
    """sRGB's transfer function (IEC 61966-2-1)."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
