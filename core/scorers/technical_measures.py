"""Measures of a picture's technical quality, each from the paper it cites; no weights, no prompt.

All take RGB pixels (B, 3, H, W), finite, in [0, 1], float32 or float64, or their luma (B, 1, H, W), and give (B,) of that
dtype. They run on any device and for every size down to 1 x 1, and all but `damage` have gradients; where one has a kink or
a plateau it says so.

Size. Measures that compare neighbouring pixels would fall when the same picture is merely enlarged, so sharpness and noise
are taken at viewing size: `at_viewing_size` averages bigger pictures down to the area of 512 x 512 first. Contrast,
colourfulness, exposure, clipping and tones are statistics that size does not touch; of bigger pictures `sampled` keeps every
second, third ... pixel, never an average, which would invent tones and hide clipping. Blockiness must see the 8-pixel grid
and therefore always looks at the pixels as they are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

VIEWING_SIDE = 512  # pictures of a bigger area are averaged down to about this square's before neighbours are compared
TILE = 16  # side of the tiles that local measures average over, in pixels
GREY_STEP = 1.0 / 255.0


def luma(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W): Y' of Rec. ITU-R BT.601-7, section 2.5.1, as in JPEG; 0..1."""
    weights = pixels.new_tensor([0.299, 0.587, 0.114])
    return torch.einsum("bchw,c->bhw", pixels, weights)[:, None]


def at_viewing_size(grey: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, 1, h, w) of at most about VIEWING_SIDE² pixels by area averaging; smaller ones are left alone."""
    height, width = grey.shape[-2:]
    factor = math.sqrt(height * width) / VIEWING_SIDE
    if factor <= 1.0:
        return grey
    down, across = min(int(factor), height), min(int(factor), width)
    target = max(1, round(height / factor)), max(1, round(width / factor))
    grey = F.avg_pool2d(grey, (down, across))  # the whole part cheaply, the rest (below 2) exactly
    grey = _reduce(grey.transpose(-1, -2), target[0]).transpose(-1, -2)
    return _reduce(grey, target[1])


def _reduce(grey: Tensor, reduced: int) -> Tensor:
    """(..., W) -> (..., reduced) for W / 2 < reduced <= W: each output averages the pixels it covers, fractions included."""
    width = grey.shape[-1]
    if reduced >= width:
        return grey
    edges = torch.linspace(0, width, reduced + 1, dtype=torch.float64, device="cpu")
    left, right = edges[:-1], edges[1:]
    total = grey.new_zeros(())
    for tap in range(4):  # a stretch shorter than 2 pixels, or a hair longer, touches at most four
        pixel = left.floor() + tap
        covered = (torch.minimum(right, pixel + 1) - torch.maximum(left, pixel)).clamp(min=0) * (reduced / width)
        index = pixel.clamp(max=width - 1).to(torch.int64).to(grey.device)
        total = total + grey.index_select(-1, index) * covered.to(grey.dtype).to(
            grey.device
        )  # no float64 on Apple's GPUs
    return total


def sampled(pixels: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, h, w): every n-th pixel each way, n such that about VIEWING_SIDE² are left."""
    stride = max(1, round(math.sqrt(pixels.shape[-2] * pixels.shape[-1]) / VIEWING_SIDE))
    return pixels[..., ::stride, ::stride] if stride > 1 else pixels


def sharpness(grey: Tensor) -> Tensor:
    """0 (nothing finer than a 9-pixel blur) .. 1: one minus the blur of Crété-Roffet et al. 2007.

    "The Blur Effect: Perception and Estimation with a New No-Reference Perceptual Blur Metric", SPIE 6492: the share of the
    variation between neighbours that a 9-tap mean takes away, in the direction where it takes least. Relative, so contrast
    does not change it. Kinks where neighbours are equal. grey: luma at viewing size.
    """
    return torch.minimum(_lost_to_blur(grey), _lost_to_blur(grey.transpose(-1, -2)))


def _lost_to_blur(grey: Tensor) -> Tensor:
    """Share of the horizontal variation that a horizontal 9-tap mean removes. (B, 1, H, W) -> (B,)"""
    before, after = _magnitude(_steps(grey)), _magnitude(_steps(_mean_of_nine(grey)))
    lost = _mean(F.relu(before - after))
    return lost / (_mean(before) + 0.05 * GREY_STEP)  # the floor: less than that is no picture


def _mean_of_nine(grey: Tensor) -> Tensor:
    """The mean of each pixel and its four neighbours on either side, of fewer at the borders. (..., W) -> (..., W)"""
    width = grey.shape[-1]
    padded = F.pad(grey, (4, 4))
    total = padded[..., :width] + padded[..., 8:]
    for shift in range(1, 8):
        total = total + padded[..., shift : shift + width]
    position = torch.arange(width, device=grey.device)
    covered = 1 + position.clamp(max=4) + (width - 1 - position).clamp(max=4)
    return total / covered


def noise(grey: Tensor) -> Tensor:
    """Standard deviation of the noise, 0..about 0.5, in the calmest third of the picture.

    Immerkær 1996, "Fast Noise Variance Estimation", Computer Vision and Image Understanding 64(2), eq. 3, taken per tile of
    16 x 16 pixels, so that texture and edges elsewhere do not count as noise. Kinks where tiles change rank. grey: luma at
    viewing size.
    """
    if min(grey.shape[-2:]) < 3:
        return grey.new_zeros(grey.shape[0])
    laplacian = _second_steps(_second_steps(grey).transpose(-1, -2))
    tile = min(TILE, *laplacian.shape[-2:])
    tiles = F.avg_pool2d(_magnitude(laplacian), tile).flatten(1) * (math.sqrt(math.pi / 2) / 6)
    return tiles.topk(math.ceil(tiles.shape[1] / 3), dim=1, largest=False).values.mean(1)


def contrast(grey: Tensor) -> Tensor:
    """RMS contrast, 0..0.5: the standard deviation of luma.

    Peli 1990, "Contrast in Complex Images", JOSA A 7(10), eq. 2.
    """
    return _root(_variance(grey.flatten(1)))


def colourfulness(pixels: Tensor) -> Tensor:
    """M̂(3), 0 (grey) .. about 109 (extremely colourful), in units of 8-bit levels.

    Hasler and Süsstrunk 2003, "Measuring Colourfulness in Natural Images", SPIE 5007: sqrt(σ_rg² + σ_yb²) +
    0.3 sqrt(μ_rg² + μ_yb²) with rg = R - G and yb = (R + G) / 2 - B.
    """
    red, green, blue = (pixels * 255.0).flatten(2).unbind(1)
    rg, yb = red - green, (red + green) / 2 - blue
    spread = _root(_variance(rg) + _variance(yb))
    return spread + 0.3 * _root(rg.mean(1).square() + yb.mean(1).square())


def exposure(grey: Tensor) -> Tensor:
    """Well-exposedness of the picture as a whole, 0 (black or white) .. 1 (middle grey on average).

    The Gaussian of Mertens, Kautz and Van Reeth 2007, "Exposure Fusion", Pacific Graphics, section 3.1 (σ = 0.2), on the mean
    luma instead of each pixel: dark and bright places are what contrast is made of.
    """
    return torch.exp(-(grey.flatten(1).mean(1) - 0.5).square() / (2 * 0.2**2))


def clipping(pixels: Tensor) -> Tensor:
    """Share of values at either end of the scale, 0..1, over all pixels and channels.

    What a camera's clipping warning counts (no paper), with a ramp over the last three 8-bit levels instead of a step, so
    that it has a gradient there; none further inside.
    """
    ramp = 3 * GREY_STEP
    from_middle = _magnitude(pixels - 0.5)
    return F.relu(from_middle - (0.5 - ramp)).flatten(1).mean(1) / ramp


def tones(pixels: Tensor) -> Tensor:
    """Entropy of the 8-bit levels in bits, 0 (one flat colour) .. 8, mean over the channels; banding lowers it.

    Shannon 1948, "A Mathematical Theory of Communication", section 6. A value between two levels counts for both by its
    distance, which is exact for 8-bit pictures and gives a gradient; kinks at the levels. Below 256 pixels the entropy cannot
    reach 8.
    """
    batch, channels = pixels.shape[:2]
    levels = (pixels * 255.0).flatten(2).flatten(0, 1)
    below = levels.detach().floor()
    above_share = (levels - below).flatten()
    bins = 257  # one more than there are levels, for the empty upper share of level 255
    row = torch.arange(batch * channels, device=pixels.device, dtype=pixels.dtype)[:, None] * bins
    index = (below + row).to(torch.int64).flatten()
    counts = levels.new_zeros(batch * channels * bins)
    counts = counts.index_add(0, index, 1 - above_share).index_add(0, index + 1, above_share)
    share = counts.reshape(batch, channels, bins) / max(1, levels.shape[1])
    return 0.0 - (share * share.clamp(min=1e-12).log2()).sum(-1).mean(1)  # not a negative zero


def blockiness(grey: Tensor) -> Tensor:
    """How much steeper the picture is across an 8 x 8 block grid than inside the blocks, 0 (not at all) .. about 4.

    Wang, Sheikh and Bovik 2002, "No-Reference Perceptual Quality Assessment of JPEG Compressed Images", ICIP: the boundary
    difference B against the differences inside the blocks, here as the logarithm of their ratio. Each is the median over
    the lines of the grid, so that a horizon that happens to lie on one line is no block edge; the grid lies where the ratio
    is largest, since pictures get cropped; and it is compared with the lines 2, 4 and 6 further, so that pixels doubled or
    quadrupled by enlarging do not look like blocks. Piecewise smooth: kinks where another line becomes the median or another
    grid the strongest. grey: luma at native size.
    """
    return (_grid_excess(grey) + _grid_excess(grey.transpose(-1, -2))) / 2


def _grid_excess(grey: Tensor) -> Tensor:
    """Log ratio of the steps on the strongest of eight column grids to the next strongest. (B, 1, H, W) -> (B,)"""
    steps = _magnitude(_steps(grey))
    blocks = steps.shape[-1] // 8
    if blocks < 3:  # too few to tell a grid from a coincidence
        return grey.new_zeros(grey.shape[0])
    lines = steps[..., : blocks * 8].mean((1, 2)).reshape(grey.shape[0], blocks, 8)
    grids = lines.median(dim=1).values
    position = grids.detach().argmax(1, keepdim=True)
    on_grid = grids.gather(1, position)[:, 0]
    beside = torch.cat([grids.gather(1, (position + shift) % 8) for shift in (2, 4, 6)], dim=1).amax(1)
    floor = 0.05 * GREY_STEP
    return F.relu(torch.log((on_grid + floor) / (beside + floor)))


def emptiness(grey: Tensor) -> Tensor:
    """Share of the picture where nothing is, 0..1: tiles of 16 x 16 pixels of one colour, as a failed decode leaves them.

    A tile counts by exp(-(s / s0)²) with s the root mean square step between its neighbouring pixels and s0 a quarter of an
    8-bit level: 1 when constant, 0 as soon as it holds a gradient. No paper; black NaN pictures and truncated files are what
    it is for. grey: luma at native size.
    """
    tile = [min(TILE, side) for side in grey.shape[-2:]]
    energy = grey.new_zeros(grey.shape)
    energy[..., :, 1:] += _steps(grey).square()
    energy[..., 1:, :] += _steps(grey.transpose(-1, -2)).transpose(-1, -2).square()
    return torch.exp(-F.avg_pool2d(energy, tile) / (0.25 * GREY_STEP) ** 2).flatten(1).mean(1)


def damage(pixels: Tensor) -> Tensor:
    """Share of pixels that hold a NaN or an infinity, 0..1. A count: it has no gradient. pixels: as they came."""
    total = pixels.detach().sum(1)  # one such channel makes the sum so
    return 1 - (total - total == 0).to(pixels.dtype).flatten(1).mean(1)


def _steps(field: Tensor) -> Tensor:
    """Differences of horizontal neighbours: (..., W) -> (..., W - 1)."""
    return field[..., 1:] - field[..., :-1]


def _second_steps(field: Tensor) -> Tensor:
    """Horizontal second differences: (..., W) -> (..., W - 2)."""
    return field[..., 2:] - 2 * field[..., 1:-1] + field[..., :-2]


def _magnitude(field: Tensor) -> Tensor:
    """The absolute value, whose gradient in torch's own is an operator that Apple's GPUs lack before torch 2.2."""
    return torch.maximum(field, -field)


def _mean(field: Tensor) -> Tensor:
    """Mean of each image, 0 where it has no pixel."""
    flat = field.flatten(1)
    return flat.sum(1) / max(1, flat.shape[1])


def _variance(values: Tensor) -> Tensor:
    """(B, N) -> (B,), of the N values themselves, not of what they are a sample of."""
    return (values - values.mean(1, keepdim=True)).square().mean(1)


def _root(square: Tensor) -> Tensor:
    """Square root whose gradient stays finite at 0."""
    return torch.sqrt(square + 1e-12)
