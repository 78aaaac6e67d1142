"""A PIL image resized as the reference does it, in the mode that it has and before it becomes RGB, band by band.

Pillow makes the horizontal pass, which is most of the work, as fast as it can be made; the passes are asked for one by one,
since Pillow 13 turns their order round for some sizes (see `resize`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .bands import Bands
from .resize import bicubic_taps, resize_columns, resize_rows, resized_shape

Convert = Callable[[Image.Image], Image.Image]

_PREMULTIPLIED = {"RGBA": "RGBa", "LA": "La"}
_MOST_STRETCHED = 8  # times as wide as the cut: beyond it, columns that are not kept cost more than they save
_MOST_SUMMED = 1 << 22


def resize_crop_pil(bands: Bands, size: int, ready: Convert, mode: str) -> Image.Image:
    """An image of any mode -> its central size x size after the resize that `Image.resize` does in that mode.

    ready: makes an image of mode `mode` of each band.
    """
    if mode in ("1", "P", "PA"):  # Pillow would interpolate PA's palette positions; nearest is what is meant
        return _nearest_crop(bands, size)
    if mode in ("I", "F"):
        return _resize_crop_32bit(bands, size)
    same_size = resized_shape(bands.height, bands.width, size) == (bands.height, bands.width)
    if mode in _PREMULTIPLIED and not same_size:
        return _resize_crop_bands(bands, size, lambda band: ready(band).convert(_PREMULTIPLIED[mode])).convert(mode)
    resized = _resize_crop_bands(bands, size, ready)
    return resized.convert("LA") if resized.mode == "La" else resized  # La has no way to RGB of its own


def _resize_crop_bands(bands: Bands, size: int, ready: Convert) -> Image.Image:
    """Modes of 8-bit bands: Pillow resizes each band by itself, whatever it means."""
    new_height, new_width = resized_shape(bands.height, bands.width, size)
    rows = bicubic_taps(bands.height, new_height, size)
    across, mode = [], ""
    for _, band in bands.rows(rows.start, rows.stop):
        band = ready(band)
        mode = band.mode
        across.append(_across(band, new_width, size))
    resized = resize_rows(torch.cat(across, dim=-2), bands.height, new_height, size)
    return Image.merge(mode, [Image.fromarray(plane.numpy()) for plane in resized])


def _across(band: Image.Image, new_width: int, size: int) -> Tensor:
    """(C, H, W) -> (C, H, size) uint8: the horizontal pass, of which only the central columns are kept."""
    if new_width > _MOST_STRETCHED * size:
        taps = bicubic_taps(band.width, new_width, size)
        cut = _planes(band.crop((taps.start, 0, taps.stop, band.height)))
        return resize_columns(cut, band.width, new_width, size)
    if new_width != band.width:
        band = band.resize((new_width, band.height), Image.Resampling.BICUBIC)
    left = round((new_width - size) / 2.0)
    return _planes(band.crop((left, 0, left + size, band.height)))


def _planes(image: Image.Image) -> Tensor:
    return torch.stack([torch.from_numpy(np.array(plane)) for plane in image.split()])


def _resize_crop_32bit(bands: Bands, size: int) -> Image.Image:
    """Mode I (int32) and F (float32): float64 sums; I is rounded, F is stored as float32, after each pass."""
    new_height, new_width = resized_shape(bands.height, bands.width, size)
    rows = bicubic_taps(bands.height, new_height, size)
    columns = bicubic_taps(bands.width, new_width, size)
    store = _round_half_up if bands.mode == "I" else np.float32
    across = [
        store(_weighted(np.asarray(band).T, columns.source, columns.weight).T)
        for _, band in bands.rows(rows.start, rows.stop, columns.start, columns.stop)
    ]
    return Image.fromarray(store(_weighted(np.concatenate(across), rows.source, rows.weight)))


def _weighted(values: np.ndarray, source: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N, M) -> (out, M) float64: each output the weighted sum of the rows that its taps name."""
    return np.stack([w @ values[s].astype(np.float64) for s, w in zip(source, weight, strict=True)])


def _round_half_up(values: np.ndarray) -> np.ndarray:
    return np.copysign(np.floor(np.abs(values) + 0.5), values).astype(np.int32)


def _nearest_crop(bands: Bands, size: int) -> Image.Image:
    """Modes with one index or bit a pixel, for which Pillow takes the nearest pixel."""
    new_height, new_width = resized_shape(bands.height, bands.width, size)
    rows = _nearest_positions(bands.height, new_height, size)
    columns = _nearest_positions(bands.width, new_width, size)
    left, right = int(columns[0]), int(columns[-1]) + 1
    # Conversion to RGB is pixel by pixel, so it may come first here, on just the rows that are kept.
    lines = [np.asarray(bands.crop(left, y, right, y + 1).convert("RGB"))[0, columns - left] for y in rows.tolist()]
    return Image.fromarray(np.stack(lines))


def _nearest_positions(length: int, resized: int, size: int) -> np.ndarray:
    """Input positions of the central `size` outputs of Pillow's nearest resize, which adds up the step
    (Geometry.c, ImagingScaleAffine)."""
    step = length / resized
    first = round((resized - size) / 2.0)
    if resized > _MOST_SUMMED:  # a strip that Pillow could not resize at all
        position = (np.arange(first, first + size) + 0.5) * step
    else:
        steps = np.full(first + size, step)
        steps[0] = step * 0.5
        position = np.cumsum(steps)[first:]
    return np.minimum(position.astype(np.int64), length - 1)
