"""A file becomes a decoded image, or a BadImage with the reason."""

from __future__ import annotations

import os
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from ..errors import BadImage


def open_image(path: str | os.PathLike[str], data: bytes | None = None) -> Image.Image:
    """The fully decoded image of a file, or of `data` already read from it. Raises BadImage with the reason if it is none."""
    try:
        image = Image.open(path if data is None else BytesIO(data))
        image.load()
    except FileNotFoundError:
        raise BadImage(f"no such image: {os.fspath(path)}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(f"cannot read {os.fspath(path)} as an image: {error}") from error
    return image
