"""An image a few rows at a time, turned upright on the way, so that a large one never exists twice."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from .opening import TURNS, orientation_of

BAND_PIXELS = 1 << 22


class Bands:
    """Views of a decoded image. upright: turned as its EXIF orientation says; False: as it is stored."""

    def __init__(self, image: Image.Image, upright: bool) -> None:
        self.image = image
        self.mode = image.mode
        self.orientation = orientation_of(image) if upright else 1
        self.width, self.height = image.size if self.orientation < 5 else image.size[::-1]

    def crop(self, left: int, top: int, right: int, bottom: int) -> Image.Image:
        """The part between these columns and rows; the image itself where that is all of it."""
        if self.orientation == 1 and (left, top, right, bottom) == (0, 0, self.width, self.height):
            return self.image
        part = self.image.crop(self._stored(left, top, right, bottom))
        return part.transpose(TURNS[self.orientation]) if self.orientation != 1 else part

    def rows(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> Iterator[tuple[int, Image.Image]]:
        """(its first row, a band of whole rows), from `top` to `bottom`, cut to the columns from `left` to `right`."""
        right = self.width if right is None else right
        step = max(1, BAND_PIXELS // max(1, right - left))
        for start in range(top, bottom, step):
            yield start, self.crop(left, start, right, min(start + step, bottom))

    def _stored(self, left: int, top: int, right: int, bottom: int) -> tuple[int, int, int, int]:
        """Where the part lies in the stored image."""
        if self.orientation >= 5:
            left, top, right, bottom = top, left, bottom, right
        width, height = self.image.size
        if self.orientation in (2, 3, 7, 8):
            left, right = width - right, width - left
        if self.orientation in (3, 4, 6, 7):
            top, bottom = height - bottom, height - top
        return left, top, right, bottom
