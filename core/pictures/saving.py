"""Images saved with their texts where A1111 and ComfyUI look, whole or not at all."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, PngImagePlugin

from ..errors import BadImage, ImageRewardError
from ..files.atomic import replacing
from ..files.moving import creating
from .formats.exif import load_exif, shorten_comment, write_texts
from .formats.table import SAVED_ENDINGS
from .texts import carried_chunks, carried_parameters

_PARAMETERS = "parameters"
_JPEG_EXIF_BYTES = 65533  # what one segment holds

_log = logging.getLogger(__name__)


def save_image(
    image: Image.Image,
    path: str | os.PathLike[str],
    *,
    parameters: str | None = None,
    chunks: Mapping[str, Any] | None = None,
    quality: int = 95,
    overwrite: bool = True,
) -> None:
    """Saves an image with its texts; the format follows the ending of `path` (png, jpg, jpeg, webp, avif, gif).

    PNG has the texts as text chunks; JPEG, WebP and AVIF in EXIF, the parameters as UserComment, the others as ComfyUI puts
    them into WebP; GIF keeps the parameters alone. A JPEG has room for 64 KB: chunks that do not fit are left out, then
    the prompt is cut, and the log says so. Modes that a format does not know are converted (JPEG drops transparency; 16 bits
    become 8 outside PNG). The file appears whole or not at all: on any error an older file of this name is untouched.

    Args:
        image: a PIL image.
        path: the file to write.
        parameters: the A1111 text; None keeps the one that the image brought from its file.
        chunks: further texts by name, such as ComfyUI's `prompt` and `workflow` (what is no text is written as JSON); None
            keeps those that the image brought.
        quality: 1 to 100, for JPEG, WebP and AVIF.
        overwrite: False writes a new file only, however many programs save under this name at once.

    Raises:
        BadImage: `image` is not a PIL image.
        ImageRewardError: no format has this ending, or Pillow cannot write it here.
        UnwritableFile: the file cannot be written.
        FileExistsError: there is a file of this name, and `overwrite` is False.
    """
    if not isinstance(image, Image.Image):
        raise BadImage(f"Expected a PIL image to save as {path}, got {type(image).__name__}.")
    file_format = _format_of(Path(path))
    text = _storable(carried_parameters(image) or "" if parameters is None else parameters)
    others = carried_chunks(image) if chunks is None else {name: _as_text(value) for name, value in chunks.items()}
    options = _text_options(image, file_format, text, others)
    if file_format in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = quality
    if image.info.get("icc_profile"):
        options["icc_profile"] = image.info["icc_profile"]
    with (replacing if overwrite else creating)(path) as file:
        _converted(image, file_format).save(file, format=file_format, **options)


def _text_options(image: Image.Image, file_format: str, text: str, chunks: Mapping[str, str]) -> dict[str, Any]:
    """What `Image.save` must be given so that the texts end up in a file of this format."""
    if file_format == "GIF":
        return {"comment": text.encode()}
    carried = image.info.get("exif")
    if file_format == "PNG":
        # An EXIF comment would hide the chunk from A1111, which looks there first.
        exif = {"exif": write_texts(load_exif(carried), "", {})} if carried else {}
        return {"pnginfo": _png_info(text, chunks), **exif}
    if not (carried or text or chunks):
        return {}
    if file_format == "JPEG":
        return {"exif": _jpeg_exif(carried, text, chunks)}
    return {"exif": write_texts(load_exif(carried), text, chunks)}


def _png_info(text: str, chunks: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text(_PARAMETERS, text)  # tEXt where Latin-1 suffices, else iTXt
    for name, value in chunks.items():
        keyword = name.encode("latin-1", "replace")[:79]  # all that the format allows
        if name == "XML:com.adobe.xmp":
            info.add_itxt(keyword, value)  # XMP is only ever looked for in iTXt
        else:
            info.add_text(keyword, value)
    return info


def _jpeg_exif(carried: bytes | None, text: str, chunks: Mapping[str, str]) -> bytes:
    """An EXIF block that fits into a JPEG segment."""
    data = write_texts(load_exif(carried), text, chunks)
    if len(data) > _JPEG_EXIF_BYTES and chunks:
        _log.warning("A JPEG has no room for the texts %s: left out. PNG and WebP have.", ", ".join(chunks))
        data = write_texts(load_exif(carried), text, {})
    if len(data) > _JPEG_EXIF_BYTES:
        _log.warning("A JPEG has no room for parameters of %d characters: the prompt is cut.", len(text))
        data = write_texts(load_exif(None), shorten_comment(text, _JPEG_EXIF_BYTES - 256), {})  # 256: the block itself
    return data


def _format_of(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in SAVED_ENDINGS:
        raise ImageRewardError(f"Cannot save {path.name}: expected one of the endings {', '.join(SAVED_ENDINGS)}.")
    file_format = SAVED_ENDINGS[ending]
    Image.init()
    if file_format not in Image.SAVE:
        raise ImageRewardError(
            f"Pillow {PIL.__version__} cannot write {file_format} here: choose PNG, JPEG or WebP, "
            'or run: pip install "Pillow>=11.3"'
        )
    return file_format


def _converted(image: Image.Image, file_format: str) -> Image.Image:
    """The image in a mode that the format can hold."""
    if file_format == "PNG" and image.mode in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):
        return image.convert("I;16") if image.mode == "I" else image  # Pillow 13 no longer does it by itself
    if image.mode.startswith("I"):  # 16 bits, whether in "I;16" or in "I"
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.mode in ("RGB", "L") or (file_format == "GIF" and image.mode in ("1", "LA", "P", "RGBA")):
        return image
    has_alpha = image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha and file_format != "JPEG" else "RGB")


def _as_text(value: Any) -> str:
    return _storable(value if isinstance(value, str) else json.dumps(value))


def _storable(text: str) -> str:
    """The text without what no format can hold: zero characters and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
