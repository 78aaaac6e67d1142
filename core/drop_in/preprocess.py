"""What the reference's `model.preprocess` does, and what counts as one image or several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..networks.pixels import normalise
from ..pictures.opening import Picture
from ..pictures.pixels import ImageLike, to_pixels
from ..pictures.reading import read_in_order
from ..pictures.resize import resize_crop, resize_crop_smooth

_READ_AHEAD = 16  # files


class Preprocess:
    """One image -> (3, size, size) float32 pixels, resized, cut and normalised, as the networks take them.

    The image is taken as it is stored, whatever its EXIF orientation says, as the reference does.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: ImageLike) -> Tensor:
        pixels = to_pixels(_known(image), self.size, upright=False)[None]
        if torch.is_grad_enabled() and pixels.requires_grad:
            return normalise(resize_crop_smooth(pixels, self.size))[0]
        return normalise(resize_crop(pixels, self.size).float() / 255.0)[0]

    def each(self, images: list[ImageLike]) -> Iterator[Tensor]:
        """The pixels of each; files are read and resized by threads, ahead of their turn."""
        if all(isinstance(image, (str, os.PathLike)) for image in images):
            return read_in_order(images, self, waiting=_READ_AHEAD)
        return map(self, images)


def are_several(images: object) -> bool:
    """Whether this is a list or a batch of images: (N, 3, H, W), (N, H, W, 3), an array of paths or PIL images."""
    if isinstance(images, np.ndarray) and images.dtype.kind in "OUS":
        return images.ndim > 0
    return isinstance(images, (list, tuple)) or (isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4)


def listed(images: Any) -> list[Any]:
    """The images of a list, a batch or whatever else can be gone through; one image as a list of it."""
    if are_several(images) or (not _is_image(images) and isinstance(images, Iterable)):
        return list(images)
    return [images]


def _transform(n_px: int) -> Preprocess:
    """The reference's name for it, which clients import."""
    return Preprocess(n_px)


def _known(image: Any) -> Any:
    if hasattr(image, "read"):  # an open file, which the reference's CLIPScore and its kin take
        return Image.open(image)
    if _is_image(image):
        return image
    raise TypeError(
        f"expected an image as a path, a PIL image, a numpy array (H, W, 3) or a tensor (3, H, W), "
        f"got {type(image).__name__}"
    )


def _is_image(image: Any) -> bool:
    kinds = (str, os.PathLike, Picture, Image.Image, np.ndarray, Tensor)
    return isinstance(image, kinds) or hasattr(image, "read")
