"""IMAGE as ComfyUI hands it to a list node -> one (3, H, W) view an image, still where the tensor is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import BadImage

BLACK_BELOW = 1 / 255  # the darkest value that is not saved as 0


def to_pixels(elements: Sequence[Any]) -> list[Tensor]:
    """Batches (B, H, W, 3), float in [0, 1], one after the other -> views (3, H, W), one an image."""
    pixels = [image for element in elements for image in _check(element).permute(0, 3, 1, 2)]  # BHWC -> BCHW
    if not pixels:
        raise BadImage("Expected at least one image, got a batch of none.")
    return pixels


def note(pixels: Tensor) -> str:
    """What is odd about one image (3, H, W), or an empty string."""
    broken = int((~torch.isfinite(pixels)).any(dim=0).sum())
    if broken:
        return f"{broken} of {pixels.shape[1] * pixels.shape[2]} pixels are NaN or infinite, scored as they are saved"
    return "black image" if float(pixels.amax()) < BLACK_BELOW else ""


def _check(element: Any) -> Tensor:
    expected = "Expected an IMAGE (batch, height, width, 3 channels)"
    if not isinstance(element, Tensor):
        kind = "a LATENT; decode it first (VAE Decode)" if _is_latent(element) else f"a {type(element).__name__}."
        raise BadImage(f"{expected}, got {kind}")
    shape = tuple(element.shape)
    if element.ndim in (2, 3):
        raise BadImage(
            f"{expected}, got the shape {shape}, which looks like a MASK. Put 'Convert Mask to Image' before it."
        )
    if element.ndim != 4:
        raise BadImage(f"{expected}, got the shape {shape}.")
    if shape[3] == 4:
        raise BadImage(
            f"{expected}, got the shape {shape}: the fourth channel is alpha, which a reward model cannot see. "
            "Put 'Split Image with Alpha' before it, or join the image with a background."
        )
    if shape[3] != 3:
        raise BadImage(f"{expected}, got {shape[3]} channels (the shape {shape}).")
    if 0 in shape[1:]:
        raise BadImage(f"{expected} of at least 1 x 1 pixels, got the shape {shape}.")
    return element


def _is_latent(element: Any) -> bool:
    return isinstance(element, dict) and "samples" in element
