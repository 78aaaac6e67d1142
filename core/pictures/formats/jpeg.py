"""JPEG: a row of marked segments before the compressed pixels (ITU T.81, annex B); EXIF is one of them (APP1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ...errors import BadImage, ImageRewardError
from ...infotext.parameters import is_parameters
from .tiff import EXIF_HEADER

_START, _END = b"\xff\xd8", b"\xff\xd9"
_APP0, _APP1, _SCAN, _COMMENT = 0xE0, 0xE1, 0xDA, 0xFE
_MOST = 65533  # bytes that one segment holds


class Segment(NamedTuple):
    marker: int
    start: int
    end: int
    body: bytes


def recognises(data: bytes) -> bool:
    return data.startswith(_START + b"\xff")


def scans(data: bytes) -> int:
    """How often the decoder goes over a progressive picture, which holds it as coefficients meanwhile."""
    return data.count(bytes((0xFF, _SCAN)))


def segments(data: bytes) -> Iterator[Segment]:
    """The segments up to and with the start of the scan. A file that is cut off raises BadImage."""
    at = len(_START)
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        marker, length = struct.unpack_from(">BH", data, at + 1)
        end = at + 2 + length
        if length < 2 or end > len(data):
            break
        yield Segment(marker, at, end, data[at + 4 : end])
        if marker == _SCAN:
            if data.find(_END, end) < 0:
                break
            return
        at = end
    raise BadImage("the JPEG file is damaged or cut off")


def exif_of(data: bytes) -> bytes | None:
    found = _exif_segment(data)
    return None if found is None else found.body


def other_text(data: bytes) -> str:
    """The parameters that some programs keep in the comment segment; "" where it holds another remark."""
    comment = next((one.body for one in segments(data) if one.marker == _COMMENT), b"")
    text = comment.decode("utf-8", "ignore").strip("\0")
    return text if is_parameters(text) else ""


def with_exif(data: bytes, exif: bytes) -> bytes:
    if len(exif) > _MOST:
        raise ImageRewardError(
            f"a JPEG has room for {_MOST} bytes of EXIF, and with the score it would need {len(exif)}"
        )
    segment = struct.pack(">BBH", 0xFF, _APP1, len(exif) + 2) + exif
    old = _exif_segment(data)
    if old is not None:
        return data[: old.start] + segment + data[old.end :]
    place = len(_START)
    for one in segments(data):
        if one.marker != _APP0:
            break
        place = one.end
    return data[:place] + segment + data[place:]


def _exif_segment(data: bytes) -> Segment | None:
    exif = [one for one in segments(data) if one.marker == _APP1 and one.body.startswith(EXIF_HEADER)]
    if len(exif) > 1:
        raise ImageRewardError("the JPEG has its EXIF in several segments, which is left alone")
    return exif[0] if exif else None
