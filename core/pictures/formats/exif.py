"""Text in EXIF, where JPEG, WebP and AVIF files keep it: A1111's UserComment and ComfyUI's `name:text` tags."""

from __future__ import annotations

import json
import logging
import re
import struct
from collections.abc import Mapping
from contextlib import suppress

from PIL import Image

from ...infotext.parameters import split_text
from .writing import read_as_written

_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
# ComfyUI: "prompt:{...}" in Model, "workflow:{...}" in Make, further ones in the tags below, as far as these hold text.
_PROMPT_TAG = 0x0110
_CHUNK_TAGS = (0x010F, 0x010E, 0x010D)
_TEXT_TAGS = {
    **{0x010E: "ImageDescription", 0x0131: "Software", 0x013B: "Artist", 0x9C9B: "XPTitle", 0x9C9C: "XPComment"},
    **{0x9C9E: "XPKeywords", 0x9C9F: "XPSubject", 0x010F: "Make", 0x0110: "Model"},
}
_UNDEFINED = 7
_HEADER = b"Exif\0\0"

_log = logging.getLogger(__name__)


def load_exif(data: bytes | None) -> Image.Exif:
    """The EXIF block, or an empty one if there is none or it is damaged."""
    exif = Image.Exif()
    with suppress(Exception):  # Pillow raises whatever the damage happens to hit
        exif.load(data or b"")
        exif.get_ifd(_EXIF_IFD)
        return exif
    return Image.Exif()


def read_comment(exif: Image.Exif) -> str:
    """The text of the UserComment; empty if there is none. Fooocus has it in the main directory."""
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT) or exif.get(_USER_COMMENT, b"")
    if isinstance(comment, tuple):  # written as single bytes
        comment = bytes(comment)
    return decode_comment(comment, exif.endian or "") if isinstance(comment, bytes) else str(comment).strip("\0")


def decode_comment(comment: bytes, order: str = "") -> str:
    """UserComment (EXIF 2.3, 4.6.5): eight bytes name the encoding, then follows the text.

    Programs differ in what they mean by a name, so that the reading counts that looks most like writing. order: that of
    the TIFF block, "<" or ">", which decides between two that look alike.
    """
    return read_as_written(comment, order)[0]


def encode_comment(text: str, like: bytes = b"", order: str = "") -> bytes:
    """UserComment as piexif, and so A1111, writes and reads it: UTF-16, high byte first, no byte order mark.

    like: the comment that it replaces. Where that is in UTF-16 with the low byte first, so is the new one: the program
    that wrote it reads no other.
    """
    low_first = bool(like) and read_as_written(like, order)[1] == "utf-16-le"
    return b"UNICODE\0" + text.encode("utf-16-le" if low_first else "utf-16-be")


def read_chunks(exif: Image.Exif) -> dict[str, str]:
    """ComfyUI's texts: those of the tags from Model downward that have the form `name:text`."""
    chunks = {}
    for tag in (_PROMPT_TAG, *_CHUNK_TAGS):
        name, _, text = str(exif.get(tag, "")).partition(":")
        if text and name.isidentifier():
            chunks[name] = text.rstrip("\0")
    return chunks


def read_tags(exif: Image.Exif) -> dict[str, str]:
    """The texts of the tags that programs describe a picture in, by the names of the tags, as they are written."""
    found = {}
    for tag, name in _TEXT_TAGS.items():
        value = exif.get(tag) or exif.get_ifd(_EXIF_IFD).get(tag)
        if isinstance(value, tuple):  # written as single bytes
            value = bytes(value) if all(isinstance(one, int) and 0 <= one < 256 for one in value) else b""
        if isinstance(value, bytes):
            value = value.decode("utf-16-le" if name.startswith("XP") else "utf-8", "ignore")
        if isinstance(value, str) and value.strip("\0 "):
            found[name] = value.strip("\0 ")
    main = exif.get(_USER_COMMENT)  # Fooocus has it there; a label beside it goes to where it belongs
    if isinstance(main, (str, bytes)) and exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT):
        found["UserComment (main)"] = (
            main.strip("\0") if isinstance(main, str) else decode_comment(main, exif.endian or "")
        )
    return found


def write_texts(exif: Image.Exif, comment: str, chunks: Mapping[str, str]) -> bytes:
    """The EXIF block with these texts in place of those it had, as bytes that begin with `Exif\\0\\0`.

    There is room for the chunk `prompt` and three others; `workflow` goes first, and the log names what is left out.
    """
    for tag in (_PROMPT_TAG, *_CHUNK_TAGS):
        if ":" in str(exif.get(tag, "")):
            del exif[tag]
    others = sorted((name for name in chunks if name != "prompt"), key=lambda name: name != "workflow")
    for tag, name in [(_PROMPT_TAG, "prompt"), *zip(_CHUNK_TAGS, others, strict=False)]:
        if name in chunks:
            exif[tag] = _json_ascii(f"{name}:{chunks[name]}")
    if others[len(_CHUNK_TAGS) :]:
        _log.warning("EXIF has no place for %s: left out.", ", ".join(others[len(_CHUNK_TAGS) :]))
    inner = dict(exif.get_ifd(_EXIF_IFD))
    inner.pop(_USER_COMMENT, None)
    if comment:
        inner[_USER_COMMENT] = encode_comment(comment)
    if inner:
        exif[_EXIF_IFD] = inner
    data = exif.tobytes()
    return _mark_comment_undefined(data if data.startswith(_HEADER) else _HEADER + data)


def shorten_comment(text: str, size: int) -> str:
    """The text cut to a UserComment of at most `size` bytes: the prompt gives way, the parameters line stays."""
    room = size - len(encode_comment(""))
    if len(text.encode("utf-16-be")) <= room:
        return text
    body, line = split_text(text)
    tail = f"\n{line}" if line else ""
    room -= len(f"…{tail}".encode("utf-16-be"))
    if room < 0:
        return ""
    return body.encode("utf-16-be")[: room // 2 * 2].decode("utf-16-be", "ignore") + "…" + tail


def _json_ascii(text: str) -> str:
    """JSON text in ASCII, as this EXIF type demands: other characters become the escapes JSON has for them."""
    return re.sub(r"[^\x00-\x7f]", lambda char: json.dumps(char[0])[1:-1], text)


def _mark_comment_undefined(data: bytes) -> bytes:
    """Sets the UserComment's type to UNDEFINED, as EXIF demands; Pillow writes BYTE, which piexif cannot read."""
    block = bytearray(data)
    start = len(_HEADER)
    order = ">" if block[start : start + 2] == b"MM" else "<"

    def entry(ifd: int, tag: int) -> int | None:
        (count,) = struct.unpack_from(f"{order}H", block, ifd)
        entries = (ifd + 2 + 12 * i for i in range(count))
        return next((at for at in entries if struct.unpack_from(f"{order}H", block, at)[0] == tag), None)

    def long(at: int) -> int:
        return int(struct.unpack_from(f"{order}L", block, at)[0])

    pointer = entry(start + long(start + 4), _EXIF_IFD)
    comment = entry(start + long(pointer + 8), _USER_COMMENT) if pointer is not None else None
    if comment is not None:
        struct.pack_into(f"{order}H", block, comment + 2, _UNDEFINED)
    return bytes(block)
