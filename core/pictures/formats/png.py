"""PNG: a row of chunks, each with length, name and checksum (PNG specification, third edition, section 5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from PIL import PngImagePlugin

from ...errors import BadImage, ForeignText
from ..limits import TEXT_BYTES
from .tiff import comment_of, with_comment

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"parameters"
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")
_READ = (*_TEXT_KINDS, b"iCCP", b"eXIf", b"IHDR")  # what is looked into


class Chunk(NamedTuple):
    kind: bytes
    start: int
    end: int
    body: bytes


def recognises(data: bytes) -> bool:
    return data.startswith(_SIGNATURE)


def chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks from IHDR to IEND. A file that is cut off, or a chunk other than pixels that is damaged, raises BadImage."""
    last = b""
    for chunk in _whole_chunks(data):
        last = chunk.kind
        yield chunk
    if last != b"IEND":
        raise BadImage("the PNG file is cut off")


def _whole_chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks up to IEND, or to where the file is cut off."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        body = data[at + 8 : end - 4] if kind in _READ else b""
        if body and zlib.crc32(kind + body) != struct.unpack(">L", data[end - 4 : end])[0]:
            raise BadImage(f"its {kind.decode()} chunk is damaged (wrong checksum)")
        yield Chunk(kind, at, end, body)
        if kind == b"IEND":
            return
        at = end


def without_texts(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """(the file without its texts and its colour profile, these as Pillow has them in `Image.info`).

    What cannot be unpacked is left out, as Pillow does. Raises ImageUnavailable for more text than the limit.
    """
    info: dict[str, Any] = {}
    room = TEXT_BYTES.most
    kept, at = [], 0
    for chunk in _whole_chunks(data):
        if chunk.kind not in (*_TEXT_KINDS, b"iCCP"):
            continue
        kept.append(data[at : chunk.start])
        at = chunk.end
        found = _info_of(chunk, room)
        room -= sum(map(len, found.values()))
        if room < 0:
            TEXT_BYTES.check(TEXT_BYTES.most - room)
        info |= found
    return b"".join((*kept, data[at:])) if kept else data, info


def _info_of(chunk: Chunk, room: int) -> dict[str, Any]:
    """What Pillow would put into `Image.info`; more than `room` bytes come back cut to one more than that."""
    name, _, value = chunk.body.partition(b"\0")
    keyword = name.decode("latin-1")
    if not keyword or not value:
        return {}
    if chunk.kind == b"tEXt":
        return {keyword: value if keyword == "exif" else value.decode("latin-1")}
    if chunk.kind in (b"zTXt", b"iCCP"):
        raw = _unpacked(value[1:], room) if value[0] == 0 else None
        if chunk.kind == b"iCCP":
            return {"icc_profile": raw} if raw else {}
        return {} if raw is None else {keyword: raw.decode("latin-1")}
    packed, fields = value[:2], value[2:].split(b"\0", 2)
    if len(packed) < 2 or len(fields) < 3 or (packed[0] and packed[1]):
        return {}
    raw = _unpacked(fields[2], room) if packed[0] else fields[2]
    try:
        text = None if raw is None else PngImagePlugin.iTXt(raw.decode(), *(field.decode() for field in fields[:2]))
    except UnicodeDecodeError:
        return {}
    xmp = {"xmp": raw} if keyword == "XML:com.adobe.xmp" else {}
    return {} if text is None else {keyword: text} | xmp


def with_changed_text(data: bytes, change: Callable[[str], str]) -> bytes:
    """Changes the parameters wherever they are: in the text chunk, in the EXIF comment, or in both. None: a new chunk."""
    found = list(chunks(data))
    parameters = next((chunk for chunk in reversed(found) if _is_parameters(chunk)), None)
    exif = next((chunk for chunk in found if chunk.kind == b"eXIf"), None)
    comment = comment_of(exif.body) if exif else ""
    edits: list[tuple[int, int, bytes]] = []
    if exif is not None and comment:  # A1111 reads the comment first, so that it must not lag behind
        new = change(comment)
        if new != comment:
            edits.append((exif.start, exif.end, _chunk(b"eXIf", with_comment(exif.body, new))))
    if parameters is not None:
        old = _text(parameters)
        new = change(old)
        if new != old:
            edits.append((parameters.start, parameters.end, _like(parameters, new)))
    elif not comment:
        first = next((chunk.start for chunk in found if chunk.kind == b"IDAT"), found[-1].start)
        new = change("")
        edits += [(first, first, _new_text(new))] if new else []
    for start, end, replacement in sorted(edits, reverse=True):
        data = data[:start] + replacement + data[end:]
    return data


def _is_parameters(chunk: Chunk) -> bool:
    return chunk.kind in _TEXT_KINDS and chunk.body.partition(b"\0")[0] == _KEYWORD


def _text(chunk: Chunk) -> str:
    value = chunk.body[len(_KEYWORD) + 1 :]
    if chunk.kind == b"tEXt":
        return value.decode("latin-1")
    if chunk.kind == b"zTXt":
        return _inflated(value[1:]).decode("latin-1")
    _, _, text = _itxt_fields(value)
    try:
        return (_inflated(text) if value[0] else text).decode()
    except UnicodeDecodeError:
        raise ForeignText("its parameters text is not UTF-8, as its chunk claims, and is left as it is") from None


def _like(chunk: Chunk, text: str) -> bytes:
    """A chunk of the same kind with another text; iTXt where the kind cannot hold it."""
    if chunk.kind == b"iTXt":
        value = chunk.body[len(_KEYWORD) + 1 :]
        language, keyword, _ = _itxt_fields(value)
        raw = zlib.compress(text.encode()) if value[0] else text.encode()
        return _chunk(b"iTXt", b"\0".join((_KEYWORD, value[:2] + language, keyword, raw)))
    if chunk.kind == b"zTXt" and _is_latin(text):
        return _chunk(b"zTXt", _KEYWORD + b"\0\0" + zlib.compress(text.encode("latin-1")))
    return _new_text(text)


def _new_text(text: str) -> bytes:
    if _is_latin(text):
        return _chunk(b"tEXt", _KEYWORD + b"\0" + text.encode("latin-1"))
    return _chunk(b"iTXt", _KEYWORD + b"\0\0\0\0\0" + text.encode())


def _itxt_fields(value: bytes) -> tuple[bytes, bytes, bytes]:
    """(language, translated keyword, text) after the two bytes of compression."""
    language, keyword, text = value[2:].split(b"\0", 2)
    return language, keyword, text


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _unpacked(data: bytes, most: int) -> bytes | None:
    """At most one byte more than `most`; None where it is damaged."""
    try:
        return zlib.decompressobj().decompress(data, most + 1)
    except zlib.error:
        return None


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, TEXT_BYTES.most + 1)
    except zlib.error as error:
        raise BadImage(f"its parameters text is damaged ({error})") from error
    TEXT_BYTES.check(len(text))
    if not stream.eof:
        raise BadImage("its parameters text is damaged (it is cut off)")
    return text


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))
