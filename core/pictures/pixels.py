"""Anything a caller holds -> pixels."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import BadImage, ImageRewardError, ImageUnavailable
from .bands import Bands
from .opening import Picture, open_picture
from .pil_resize import Convert, resize_crop_pil

ImageLike = Any  # str | os.PathLike | Picture | PIL.Image.Image | numpy.ndarray | torch.Tensor

NEARLY_OPAQUE = 254  # Forge and reForge hide the parameters in the lowest bit of an opaque alpha ("stealth infotext")

OVERSHOOT = 0.5  # beyond 0 and 1: what a sharp resize or a decoder leaves; it is clipped, as when an image is saved


def to_pixels(image: ImageLike, size: int | None = None, *, upright: bool = True) -> Tensor:
    """One image as a (3, H, W) tensor: uint8, or float in [0, 1] if a float array or tensor came in.

    image: a path; a `Picture`; a PIL image of any mode; a numpy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); a torch
    tensor (3, H, W), (1, H, W) or (4, H, W), left on its device and in its graph. An alpha channel of an array or tensor is
    dropped.
    size: the side that the scorer resizes to: files and PIL images come as (3, size, size), resized in their own mode as the
    reference does, before they are converted to RGB; None gives them at full size. An alpha of 254 and 255 alone is no
    transparency but a text that a WebUI hid there: it leaves first, so that the file scores what the picture did.
    upright: files and PIL images are turned as their EXIF orientation says; False leaves them as they are stored.
    """
    if isinstance(image, (str, os.PathLike)):
        image = open_picture(image)
    if isinstance(image, Picture):
        image = image.image
    if isinstance(image, Image.Image):
        return _pil_pixels(image, size, upright)
    if isinstance(image, np.ndarray):
        return _array_pixels(image)
    if isinstance(image, Tensor):
        return _tensor_pixels(image)
    raise BadImage(f"expected a path, PIL image, numpy array or torch tensor, got {type(image).__name__}")


def _pil_pixels(image: Image.Image, size: int | None, upright: bool) -> Tensor:
    if 0 in image.size:
        raise BadImage(f"expected an image of at least 1 x 1 pixels, got {image.size[0]} x {image.size[1]}")
    try:
        image.load()
        bands = Bands(image, upright)
        ready, mode = _readied(bands)
        if size is None:
            return _full_size(bands, ready)
        resized = resize_crop_pil(bands, size, ready, mode)
        return torch.from_numpy(np.array(resized.convert("RGB"))).permute(2, 0, 1)  # HWC -> CHW
    except MemoryError:
        raise ImageUnavailable(f"no memory is left for an image of {image.width} x {image.height} pixels") from None
    except ImageRewardError:
        raise
    except Exception as error:  # an image that was opened elsewhere is decoded only now
        raise BadImage(f"the image cannot be decoded: {error or type(error).__name__}") from error


def _readied(bands: Bands) -> tuple[Convert, str]:
    """What is done to a band before it is resized, and the mode that it has then."""
    if bands.mode.startswith("I;16") or (bands.mode == "I" and _highest(bands) > 255):
        return _grey_of_16_bits, "L"  # Pillow's conversion saturates everything above 255; scale instead
    if bands.mode == "RGBA" and _nearly_opaque(bands):
        return lambda band: band.convert("RGB"), "RGB"
    return lambda band: band, bands.mode


def _full_size(bands: Bands, ready: Convert) -> Tensor:
    pixels = np.empty((bands.height, bands.width, 3), np.uint8)
    for top, band in bands.rows(0, bands.height):
        pixels[top : top + band.height] = np.asarray(ready(band).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)  # HWC -> CHW


def _highest(bands: Bands) -> int:
    return max(int(np.max(band.getextrema())) for _, band in bands.rows(0, bands.height))


def _nearly_opaque(bands: Bands) -> bool:
    return all(np.min(band.getchannel("A").getextrema()) >= NEARLY_OPAQUE for _, band in bands.rows(0, bands.height))


def _grey_of_16_bits(band: Image.Image) -> Image.Image:
    grey = np.asarray(band).astype(np.float64) / 257.0
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


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
    if pixels.is_floating_point():
        _check_range(pixels)
    return pixels.expand(3, -1, -1) if pixels.shape[0] == 1 else pixels[:3]


def _check_range(pixels: Tensor) -> None:
    """Refuses what would be clipped to white or black in silence. NaN and infinities pass, and are scored as they are saved."""
    finite = torch.nan_to_num(pixels.detach(), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = finite.amin().item(), finite.amax().item()
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        cure = "divide them by 255" if low >= -OVERSHOOT * 255 and high <= 255 * (1 + OVERSHOOT) else "scale them"
        cure = "map them with (pixels + 1) / 2" if low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT else cure
        raise BadImage(f"expected float pixels in [0, 1], got values from {low:.4g} to {high:.4g}: {cure}")
