"""WebP: chunks in a RIFF file; EXIF needs the extended form, with a VP8X chunk in front (RFC 9649, section 2.7)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ...errors import BadImage

_HAS_EXIF, _HAS_ALPHA = 0x08, 0x10
_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"VP8X", b"ICCP")


class Chunk(NamedTuple):
    kind: bytes
    body: bytes


def recognises(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def exif_of(data: bytes) -> bytes | None:
    found, _ = _chunks(data)
    return next((chunk.body for chunk in found if chunk.kind == b"EXIF"), None)


def other_text(data: bytes) -> str:
    return ""


def with_exif(data: bytes, exif: bytes) -> bytes:
    found, rest = _chunks(data)
    if found[0].kind != b"VP8X":
        found.insert(0, _extended(found[0]))
    header = bytearray(found[0].body)
    header[0] |= _HAS_EXIF
    found[0] = Chunk(b"VP8X", bytes(header))
    place = next((i for i, chunk in enumerate(found) if chunk.kind == b"EXIF"), None)
    if place is not None:
        found[place] = Chunk(b"EXIF", exif)
    else:
        last = max(i for i, chunk in enumerate(found) if chunk.kind in _PIXELS)
        found.insert(last + 1, Chunk(b"EXIF", exif))
    body = b"WEBP" + b"".join(map(_packed, found))
    return b"RIFF" + struct.pack("<L", len(body)) + body + rest


def _chunks(data: bytes) -> tuple[list[Chunk], bytes]:
    """(the chunks, whatever follows the RIFF file)."""
    end = 8 + struct.unpack_from("<L", data, 4)[0]
    if end > len(data):
        raise BadImage("the WebP file is cut off")
    found = []
    at = 12
    while at + 8 <= end:
        kind, size = struct.unpack_from("<4sL", data, at)
        if at + 8 + size > end:
            raise BadImage("the WebP file is damaged")
        found.append(Chunk(kind, data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    if not found or not any(chunk.kind in (b"VP8 ", b"VP8L", b"ANMF") for chunk in found):
        raise BadImage("the WebP file holds no picture")
    return found, data[end:]


def _packed(chunk: Chunk) -> bytes:
    return chunk.kind + struct.pack("<L", len(chunk.body)) + chunk.body + b"\0" * (len(chunk.body) % 2)


def _extended(picture: Chunk) -> Chunk:
    """The VP8X chunk of a simple file, its size and alpha read off the bitstream."""
    flags = 0
    if picture.kind == b"VP8L":
        if len(picture.body) < 5 or picture.body[0] != 0x2F:
            raise BadImage("the WebP file is damaged")
        bits = struct.unpack_from("<L", picture.body, 1)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags = _HAS_ALPHA if bits >> 28 & 1 else 0
    elif picture.kind == b"VP8 " and picture.body[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", picture.body, 6))
    else:
        raise BadImage("the WebP file is damaged")
    size = struct.pack("<L", width - 1)[:3] + struct.pack("<L", height - 1)[:3]
    return Chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size)
