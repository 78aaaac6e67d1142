"""The resize that equals Pillow's to the bit, on any device, and the same bicubic for gradients.

The reference (`_transform` in THUDM/ImageReward, ImageReward.py) resizes the shorter side with Pillow's bicubic, cuts
the centre, and converts to RGB only then. Pillow's resize (libImaging/Resample.c) works in two passes, with 22-bit
fixed-point coefficients and a rounding to 8 bits after each pass; `resize_crop` does the same integers in torch.

The horizontal pass comes first, as in every Pillow up to 12, with which the published scores were made. Pillow 13 begins
with the vertical pass where that is cheaper (python-pillow/Pillow#9549), so on some portrait pictures its bytes differ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.devices import full_precision, is_out_of_memory

PRECISION_BITS = 32 - 8 - 2  # of Pillow's fixed-point coefficients
BICUBIC_A = -0.5  # Pillow's bicubic (Keys 1981)
BICUBIC_SUPPORT = 2.0

Corner = Callable[[float], int]  # how the corner of the centre cut is rounded; torchvision's CenterCrop takes `round`


class Taps(NamedTuple):
    """One axis of a separable resize: output i = sum over k of weight[i, k] * input[start + source[i, k]]."""

    start: int  # first input position that any tap reads
    stop: int
    source: np.ndarray  # (out, K) int64, the input positions relative to `start`
    weight: np.ndarray  # (out, K) float64, rows sum to 1; 0 where a row has fewer taps


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) after the shorter side becomes `size`; torchvision's Resize truncates the longer one."""
    if width <= height:
        return int(size * height / width), size
    return size, int(size * width / height)


@lru_cache(maxsize=256)
def bicubic_taps(length: int, resized: int, size: int, corner: Corner = round) -> Taps:
    """Pillow's antialiased bicubic from `length` to `resized`, of which only the central `size` outputs are kept.

    Only the crop is ever computed, so that a 3000 x 10 strip needs no 67200 x 224 intermediate.
    Follows `precompute_coeffs` of Pillow's Resample.c, including the order of its float64 operations.
    """
    offset = corner((resized - size) / 2.0)
    scale = length / resized
    filterscale = max(scale, 1.0)
    support = BICUBIC_SUPPORT * filterscale
    inverse = 1.0 / filterscale
    centre = (np.arange(offset, offset + size) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)  # astype truncates, as C does
    last = np.minimum((centre + support + 0.5).astype(np.int64), length)
    taps = int((last - first).max())
    position = np.arange(taps)
    weight = _bicubic((position[None, :] + first[:, None] - centre[:, None] + 0.5) * inverse)
    weight[position[None, :] >= (last - first)[:, None]] = 0.0
    total = np.zeros(size)
    for k in range(taps):  # one after the other, as Pillow sums them
        total += weight[:, k]
    weight *= (1.0 / total)[:, None]
    start, stop = int(first.min()), int(last.max())
    source = np.minimum(first[:, None] + position[None, :], stop - 1) - start
    return Taps(start, stop, source, weight)


def _bicubic(x: np.ndarray) -> np.ndarray:
    a = BICUBIC_A
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def resize_crop(pixels: Tensor, size: int, corner: Corner = round) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size) uint8: Pillow's bicubic on the shorter side and the centre cut, bit for bit.

    Float pixels in [0, 1] are quantised first. Integer arithmetic throughout, so every device gives the same bytes; where a
    device lacks it, the CPU does the work and the result goes back.
    """
    pixels = quantise(pixels)
    if not _has_integer_pass(pixels.device.type):
        return _resize_crop(pixels.cpu(), size, corner).to(pixels.device)
    return _resize_crop(pixels, size, corner)


def _resize_crop(pixels: Tensor, size: int, corner: Corner) -> Tensor:
    height, width = pixels.shape[-2:]
    if (height, width) == (size, size):
        return pixels
    new_height, new_width = resized_shape(height, width, size)
    rows = bicubic_taps(height, new_height, size, corner)
    columns = bicubic_taps(width, new_width, size, corner)
    region = pixels[..., rows.start : rows.stop, columns.start : columns.stop]
    return resize_rows(resize_columns(region, width, new_width, size, corner), height, new_height, size, corner)


def resize_rows(pixels: Tensor, height: int, new_height: int, size: int, corner: Corner = round) -> Tensor:
    """(..., rows that the taps read, W) -> (..., size, W) uint8: the vertical pass of `resize_crop`."""
    taps = bicubic_taps(height, new_height, size, corner)
    if new_height != height:
        return _integer_pass(pixels, taps)
    offset = corner((height - size) / 2.0) - taps.start
    return pixels[..., offset : offset + size, :]


def resize_columns(pixels: Tensor, width: int, new_width: int, size: int, corner: Corner = round) -> Tensor:
    """(..., H, columns that the taps read) -> (..., H, size) uint8: the horizontal pass of `resize_crop`."""
    # A pass runs along the second-to-last axis, where gathering copies whole rows.
    return resize_rows(pixels.transpose(-1, -2), width, new_width, size, corner).transpose(-1, -2)


def _integer_pass(pixels: Tensor, taps: Taps) -> Tensor:
    """(..., N, M) uint8 -> (..., out, M) uint8 with Pillow's 22-bit coefficients and rounding."""
    scaled = taps.weight * (1 << PRECISION_BITS)
    fixed = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32)
    pixels = pixels.contiguous()
    out_shape = (*pixels.shape[:-2], fixed.shape[0], pixels.shape[-1])
    total = torch.full(out_shape, 1 << (PRECISION_BITS - 1), dtype=torch.int32, device=pixels.device)
    coefficients = torch.from_numpy(fixed).to(pixels.device)
    index = torch.from_numpy(taps.source).to(pixels.device)
    for k in range(fixed.shape[1]):
        total.addcmul_(pixels.index_select(-2, index[:, k]).to(torch.int32), coefficients[:, k, None])
    # A shift to the right in operators that every device has: without the low bits both steps are exact in float32.
    return total.bitwise_and(-(1 << PRECISION_BITS)).float().mul_(0.5**PRECISION_BITS).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=8)
def _has_integer_pass(device_type: str) -> bool:
    """Whether this kind of device has the operators and types of `_integer_pass`, and gives the CPU's bytes. Tried once."""
    if device_type == "cpu":
        return True
    pixels = torch.tensor([[255, 0, 1], [0, 255, 128], [255, 255, 0], [7, 0, 254]], dtype=torch.uint8, device="cpu")
    taps = bicubic_taps(4, 3, 3)
    try:
        return torch.equal(_integer_pass(pixels.to(device_type), taps).cpu(), _integer_pass(pixels, taps))
    except (RuntimeError, TypeError) as error:  # of an operator that is missing, and of a type
        if is_out_of_memory(error):
            raise
        return False


def resize_crop_smooth(pixels: Tensor, size: int, corner: Corner = round) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size) float32: the same bicubic without 8-bit rounding, differentiable.

    Equals torchvision's Resize(antialias=True) and CenterCrop on float tensors, which is what ReFL's trainers use.
    """
    pixels = as_float(pixels)
    height, width = pixels.shape[-2:]
    if (height, width) == (size, size):
        return pixels
    new_height, new_width = resized_shape(height, width, size)
    rows = bicubic_taps(height, new_height, size, corner)
    columns = bicubic_taps(width, new_width, size, corner)
    return _separable(pixels, rows, columns)


def resize_fit_smooth(pixels: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size) float32: the longer side becomes `size`, black fills the rest. Differentiable.

    Bicubic without 8-bit rounding, so values may leave [0, 1] a little. Equals `ResizeMaxSize` of the hpsv2 package.
    """
    pixels = as_float(pixels)
    height, width = pixels.shape[-2:]
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    if (new_height, new_width) != (height, width):
        rows = bicubic_taps(height, new_height, new_height)
        pixels = _separable(pixels, rows, bicubic_taps(width, new_width, new_width))
    top, left = (size - new_height) // 2, (size - new_width) // 2
    return F.pad(pixels, (left, size - new_width - left, top, size - new_height - top))


def as_float(pixels: Tensor) -> Tensor:
    """uint8 or any float dtype -> float32 in [0, 1]."""
    return pixels.float() if pixels.is_floating_point() else pixels.float() / 255.0


def _separable(pixels: Tensor, rows: Taps, columns: Taps) -> Tensor:
    region = pixels[..., rows.start : rows.stop, columns.start : columns.stop]
    with full_precision(pixels.device):
        across = region @ _matrix(columns).to(region.device).T
        return _matrix(rows).to(region.device) @ across


def _matrix(taps: Taps) -> Tensor:
    """Taps as a dense (out, in) float32 matrix."""
    dense = np.zeros((taps.source.shape[0], taps.stop - taps.start))
    np.add.at(dense, (np.arange(taps.source.shape[0])[:, None], taps.source), taps.weight)
    return torch.from_numpy(dense.astype(np.float32))


def quantise(pixels: Tensor) -> Tensor:
    """Float pixels in [0, 1] -> uint8 by truncation, as AUTOMATIC1111 and ComfyUI save them. NaN becomes 0.

    The tolerance is the rounding error of the dtype, so that k / 255 comes back as k; it makes half precision round.
    """
    if pixels.dtype == torch.uint8:
        return pixels
    tolerance = min(0.5, 255 * torch.finfo(pixels.dtype).eps)
    scaled = torch.nan_to_num(pixels.detach().float(), nan=0.0, posinf=1.0, neginf=0.0) * 255.0 + tolerance
    return scaled.clamp_(0, 255).to(torch.uint8)
