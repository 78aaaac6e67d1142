"""Anything a caller holds -> pixels."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import BadImage
from .opening import open_image
from .pil_resize import resize_crop_pil

ImageLike = Any  # str | os.PathLike | PIL.Image.Image | numpy.ndarray | torch.Tensor

NEARLY_OPAQUE = 254  # Forge and reForge hide the parameters in the lowest bit of an opaque alpha ("stealth infotext")


def to_pixels(image: ImageLike, size: int | None = None) -> Tensor:
    """One image as a (3, H, W) tensor: uint8, or float in [0, 1] if a float array or tensor came in.

    image: a path; a PIL image of any mode; a numpy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); a torch tensor
    (3, H, W), (1, H, W) or (4, H, W), left on its device and in its graph. An alpha channel of an array or tensor is dropped.
    size: the side that the scorer resizes to. PIL modes whose conversion to RGB does not commute with resizing (palette,
    alpha, CMYK ...) are resized here, before they are converted, as the reference does; None converts at full size. An
    alpha of 254 and 255 alone is no transparency but a text that a WebUI hid there: it leaves first, so that the file
    scores what the picture did.
    """
    if isinstance(image, (str, os.PathLike)):
        image = open_image(image)
    if isinstance(image, Image.Image):
        return _pil_pixels(image, size)
    if isinstance(image, np.ndarray):
        return _array_pixels(image)
    if isinstance(image, Tensor):
        return _tensor_pixels(image)
    raise BadImage(f"expected a path, PIL image, numpy array or torch tensor, got {type(image).__name__}")


def _pil_pixels(image: Image.Image, size: int | None) -> Tensor:
    if 0 in image.size:
        raise BadImage(f"expected an image of at least 1 x 1 pixels, got {image.size[0]} x {image.size[1]}")
    if image.mode.startswith("I;16") or (image.mode == "I" and int(np.asarray(image).max()) > 255):
        # 16-bit grey: Pillow's conversion saturates everything above 255; scale instead.
        grey = np.asarray(image).astype(np.float64) / 257.0
        image = Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))
    if image.mode == "RGBA" and np.asarray(image.getchannel("A")).min() >= NEARLY_OPAQUE:
        image = image.convert("RGB")
    if size is not None and image.mode not in ("RGB", "L"):
        image = resize_crop_pil(image, size)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)  # HWC -> CHW


def _array_pixels(array: np.ndarray) -> Tensor:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise BadImage(f"expected an array of shape (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    return _tensor_pixels(torch.from_numpy(np.array(array)).permute(2, 0, 1))  # HWC -> CHW


def _tensor_pixels(pixels: Tensor) -> Tensor:
    if pixels.ndim == 4 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3, 4) or 0 in pixels.shape:
        raise BadImage(f"expected a tensor of shape (3, H, W), got {tuple(pixels.shape)}")
    if not (pixels.is_floating_point() or pixels.dtype == torch.uint8):
        raise BadImage(f"expected uint8 or float pixels in [0, 1], got {pixels.dtype}")
    return pixels.expand(3, -1, -1) if pixels.shape[0] == 1 else pixels[:3]
