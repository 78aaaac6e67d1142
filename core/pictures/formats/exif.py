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

_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
# ComfyUI: "prompt:{...}" in Model, "workflow:{...}" in Make, further ones in the tags below, as far as these hold text.
_PROMPT_TAG = 0x0110
_CHUNK_TAGS = (0x010F, 0x010E, 0x010D)
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
    """The text of the UserComment; empty if there is none."""
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    if isinstance(comment, tuple):  # written as single bytes
        comment = bytes(comment)
    return decode_comment(comment) if isinstance(comment, bytes) else str(comment)


def decode_comment(comment: bytes) -> str:
    """UserComment (EXIF 2.3, 4.6.5): eight bytes name the encoding, then follows the text."""
    code, text = comment[:8], comment[8:]
    if code == b"UNICODE\0":
        return _decode_utf16(text)
    if code == b"JIS\0\0\0\0\0":
        return text.decode("shift_jis", "replace").strip("\0")
    if code in (b"ASCII\0\0\0", bytes(8)):
        return text.decode("utf-8", "replace").strip("\0")
    return comment.decode("utf-8", "ignore").strip("\0")


def encode_comment(text: str) -> bytes:
    """UserComment as piexif, and so A1111, writes and reads it: UTF-16, high byte first, no byte order mark."""
    return b"UNICODE\0" + text.encode("utf-16-be")


def read_chunks(exif: Image.Exif) -> dict[str, str]:
    """ComfyUI's texts: those of the tags from Model downward that have the form `name:text`."""
    chunks = {}
    for tag in (_PROMPT_TAG, *_CHUNK_TAGS):
        name, _, text = str(exif.get(tag, "")).partition(":")
        if text and name.isidentifier():
            chunks[name] = text.rstrip("\0")
    return chunks


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


def _decode_utf16(text: bytes) -> str:
    if text[:2] == b"\xff\xfe":
        return text[2:].decode("utf-16-le", "replace").strip("\0")
    big = text.decode("utf-16-be", "replace").strip("\0").removeprefix("\ufeff")
    little = text.decode("utf-16-le", "replace").strip("\0")
    # Some programs put the low byte first and do not say so. Read the wrong way, a parameters line has no ASCII.
    return little if not re.search(r"[ -~]", big) and split_text(little)[1] else big


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
