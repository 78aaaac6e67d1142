"""The texts of an image file, read from wherever programs put them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from PIL import Image, PngImagePlugin

from ..infotext.parameters import is_parameters
from .formats.exif import load_exif, read_chunks, read_comment, read_tags
from .formats.xmp import read_xmp
from .opening import open_header

_PARAMETERS = "parameters"


class PlacedTexts(dict[str, str]):
    """Texts by name. `places` says in words where in the file each of them lies."""

    places: Mapping[str, str] = {}


def read_parameters(image: str | os.PathLike[str] | Image.Image) -> str | None:
    """The A1111 parameters text of an image file, or of an image opened from one.

    Looks into PNG text (tEXt, zTXt, iTXt, before or after the pixels), then the EXIF UserComment (JPEG, WebP, AVIF, PNG),
    then the comment of GIF and JPEG, which counts only if it has a parameters line or is the JSON of Fooocus: any program
    may have left a remark there.

    Args:
        image: a path, or a PIL image.

    Returns:
        The text, None if there is none.

    Raises:
        BadImage: as `open_picture`.
    """
    if isinstance(image, Image.Image):
        return carried_parameters(image)
    return carried_parameters(open_header(image))


def read_texts(image: str | os.PathLike[str] | Image.Image) -> PlacedTexts:
    """Every text of an image file by name: `parameters`, ComfyUI's `prompt` and `workflow`, and whatever else is there.

    What has no name of its own has that of its place: "EXIF ImageDescription", "XMP dc:description", "comment".

    Raises BadImage, as `open_picture`.
    """
    if not isinstance(image, Image.Image):
        return read_texts(open_header(image))
    parameters = carried_parameters(image)
    texts = PlacedTexts(
        further_texts(image) | carried_chunks(image) | ({_PARAMETERS: parameters} if parameters else {})
    )
    texts.places = {name: _place(image, name) for name in texts}
    return texts


def carried_parameters(image: Image.Image) -> str | None:
    text = _png_text(image, _PARAMETERS) or read_comment(load_exif(image.info.get("exif")))
    if text:
        return text
    comment = image.info.get("comment")
    if isinstance(comment, bytes):
        comment = comment.decode("utf-8", "ignore")
    # "Created with GIMP" is no prompt.
    return comment if isinstance(comment, str) and is_parameters(comment) else None


def _png_text(image: Image.Image, name: str) -> str | None:
    if name not in image.info and isinstance(image, PngImagePlugin.PngImageFile):
        with suppress(Exception):  # pixels that cannot be read have no text after them either
            return image.text.get(name)  # decodes the pixels, to reach the chunks behind them
    value = image.info.get(name)
    return value if isinstance(value, str) else None


def carried_chunks(image: Image.Image) -> dict[str, str]:
    """The texts other than the parameters that came with the image."""
    found = read_chunks(load_exif(image.info.get("exif")))
    if isinstance(image, PngImagePlugin.PngImageFile):
        with suppress(Exception):
            found |= image.text
    if image.format in ("PNG", None):  # None: a copy of an opened image, which keeps `info` alone
        found |= {name: value for name, value in image.info.items() if isinstance(name, str) and isinstance(value, str)}
    return {name: value for name, value in found.items() if name != _PARAMETERS}


def further_texts(image: Image.Image) -> dict[str, str]:
    """The texts of EXIF's tags, of XMP and of the file's comment, by their places. They stay where they are when saved."""
    found = {f"EXIF {name}": text for name, text in read_tags(load_exif(image.info.get("exif"))).items()}
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(packet, (bytes, str)):
        found |= {f"XMP {name}": text for name, text in read_xmp(packet).items()}
    comment = image.info.get("comment")
    if isinstance(comment, bytes):
        comment = comment.decode("utf-8", "ignore")
    if isinstance(comment, str) and image.format != "PNG" and comment.strip("\0 "):
        found["comment"] = comment
    return found


def _place(image: Image.Image, name: str) -> str:
    if name.startswith(("EXIF ", "XMP ")):
        return name
    if image.format == "PNG" and isinstance(image.info.get(name), str):
        return f"PNG text {name!r}"
    if name == _PARAMETERS and read_comment(load_exif(image.info.get("exif"))):
        return "EXIF UserComment"
    return "comment" if name in (_PARAMETERS, "comment") else f"EXIF text {name!r}"
