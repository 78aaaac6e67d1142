"""PIL modes whose conversion to RGB does not commute with resizing: resized as Pillow does it in the mode itself."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from .resize import bicubic_taps, resize_crop, resized_shape

_PREMULTIPLIED = {"RGBA": "RGBa", "LA": "La"}


def resize_crop_pil(image: Image.Image, size: int) -> Image.Image:
    """A PIL image of any mode -> its central size x size after the resize that `Image.resize` does in that mode."""
    if image.mode in ("1", "P", "PA"):  # Pillow would interpolate PA's palette positions; nearest is what is meant
        return _nearest_crop(image, size)
    if image.mode in ("I", "F"):
        return _resize_crop_32bit(image, size)
    if image.mode == "La":  # has no way to RGB of its own
        return _resize_crop_bands(image, size).convert("LA")
    same_size = resized_shape(image.height, image.width, size) == (image.height, image.width)
    if image.mode in _PREMULTIPLIED and not same_size:
        premultiplied = image.convert(_PREMULTIPLIED[image.mode])
        return _resize_crop_bands(premultiplied, size).convert(image.mode)
    return _resize_crop_bands(image, size)


def _resize_crop_bands(image: Image.Image, size: int) -> Image.Image:
    """Modes of 8-bit bands: Pillow resizes each band by itself, whatever it means."""
    bands = torch.stack([torch.from_numpy(np.array(band)) for band in image.split()])
    resized = [Image.fromarray(band.numpy()) for band in resize_crop(bands[None], size)[0]]
    return Image.merge(image.mode, resized)


def _resize_crop_32bit(image: Image.Image, size: int) -> Image.Image:
    """Mode I (int32) and F (float32): float64 sums; I is rounded, F is stored as float32, after each pass."""
    new_height, new_width = resized_shape(image.height, image.width, size)
    rows = bicubic_taps(image.height, new_height, size)
    columns = bicubic_taps(image.width, new_width, size)
    store = _round_half_up if image.mode == "I" else np.float32
    region = np.asarray(image)[rows.start : rows.stop, columns.start : columns.stop]
    across = store((region[:, columns.source].astype(np.float64) * columns.weight).sum(-1))
    down = store((across[rows.source].astype(np.float64) * rows.weight[:, :, None]).sum(1))
    return Image.fromarray(down)


def _round_half_up(values: np.ndarray) -> np.ndarray:
    return np.copysign(np.floor(np.abs(values) + 0.5), values).astype(np.int32)


def _nearest_crop(image: Image.Image, size: int) -> Image.Image:
    """Modes with one index or bit a pixel, for which Pillow takes the nearest pixel."""
    new_height, new_width = resized_shape(image.height, image.width, size)
    top, left = round((new_height - size) / 2.0), round((new_width - size) / 2.0)
    rows = _nearest_positions(image.height, new_height)[top : top + size]
    columns = _nearest_positions(image.width, new_width)[left : left + size]
    # Conversion to RGB is pixel by pixel, so it may come first here, on just the pixels that are kept.
    return Image.fromarray(np.asarray(image.convert("RGB"))[rows[:, None], columns[None, :]])


def _nearest_positions(length: int, resized: int) -> np.ndarray:
    """Input position of each output of Pillow's nearest resize, which adds up the step (Geometry.c, ImagingScaleAffine)."""
    step = length / resized
    position = np.full(resized, step)
    position[0] = step * 0.5
    positions: np.ndarray = np.cumsum(position).astype(np.int64)
    return np.minimum(positions, length - 1)
