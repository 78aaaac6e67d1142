"""The UserComment of an EXIF block, set without moving anything else.

EXIF is a TIFF structure (TIFF 6.0, section 2): directories of twelve-byte entries that point into the block. Maker notes
hold offsets that only their maker knows, so nothing may move: a new directory or text goes to the end of the block.
"""

from __future__ import annotations

import codecs
import struct
from contextlib import suppress
from typing import NamedTuple

from ...errors import BadImage, ForeignText
from .exif import decode_comment, encode_comment

EXIF_HEADER = b"Exif\0\0"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_LONG, _UNDEFINED = 4, 7
_CODES = (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", b"UNICODE\0", bytes(8))  # of UserComment (EXIF 2.3, 4.6.5)
_MARKS = {"utf-16-be": codecs.BOM_UTF16_BE, "utf-16-le": codecs.BOM_UTF16_LE}
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


class _Entry(NamedTuple):
    at: int  # where its twelve bytes are
    type: int
    number: int
    value: int  # an offset, or for a short value the value itself


def comment_of(exif: bytes | None) -> str:
    """The text of the UserComment; "" if there is none. `exif`: with or without `Exif\0\0` in front.

    Raises ForeignText for a comment that was not understood, and so would be lost when it is written anew.
    """
    if not exif:
        return ""
    block = _Block(exif.removeprefix(EXIF_HEADER))
    entry = block.comment()
    if entry is None:
        return ""
    raw = block.value_of(entry)
    text = decode_comment(raw, block.order)
    if not _understood(raw, text):
        raise ForeignText("its EXIF comment is in no encoding that is understood here, and is left as it is")
    return text


def _understood(raw: bytes, text: str) -> bool:
    """Whether a comment says `text` and nothing else: encoded again, it gives the same bytes."""
    body = raw[8:] if raw[:8] in _CODES else raw
    if not body.strip(b"\0 "):
        return True
    for encoding in ("utf-16-be", "utf-16-le") if raw[:7] == b"UNICODE" else ("utf-8", "shift_jis"):
        written = body.removeprefix(_MARKS.get(encoding, b""))
        if text.encode(encoding, "replace") == _without_zeros(written, encoding):
            return not _misread(body, text)
    return False


def _without_zeros(body: bytes, encoding: str) -> bytes:
    """The bytes without the zeros around them, which `decode_comment` leaves out."""
    if not encoding.startswith("utf-16"):
        return body.strip(b"\0")
    while body.endswith(b"\0\0"):
        body = body[:-2]
    while body.startswith(b"\0\0"):
        body = body[2:]
    return body


def _misread(body: bytes, text: str) -> bool:
    """Whether another reading has far more ASCII in it: any bytes are some UTF-16, so that coming back proves little."""
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        with suppress(UnicodeDecodeError):
            if _ascii_share(body.decode(encoding)) > _ascii_share(text) + 0.3:
                return True
    return False


def _ascii_share(text: str) -> float:
    return sum(" " <= char <= "~" or char in "\r\n\t" for char in text) / max(1, len(text))


def with_comment(exif: bytes | None, text: str) -> bytes:
    """The EXIF block with this text as UserComment (UTF-16, as A1111 writes it); every other byte keeps its place.

    Where the old one has the low byte first, so has the new one.
    """
    if not exif:
        return EXIF_HEADER + _new_block(encode_comment(text))
    header = EXIF_HEADER if exif.startswith(EXIF_HEADER) else b""
    block = _Block(exif.removeprefix(EXIF_HEADER))
    entry = block.comment()
    old = b"" if entry is None else block.value_of(entry)
    block.set_comment(encode_comment(text, old, block.order))
    return header + bytes(block.data)


def _new_block(comment: bytes) -> bytes:
    main = struct.pack(">HHHLLL", 1, _EXIF_IFD, _LONG, 1, 26, 0)
    inner = struct.pack(">HHHLLL", 1, _USER_COMMENT, _UNDEFINED, len(comment), 44, 0)
    return struct.pack(">2sHL", b"MM", 42, 8) + main + inner + comment


class _Block:
    """A TIFF structure whose end may grow. Damage raises BadImage."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]), "")
        if not self.order or len(data) < 8 or self._unpack("H", 2) != 42:
            raise BadImage("its EXIF block is damaged (no TIFF header)")

    def comment(self) -> _Entry | None:
        inner = self._inner()
        return None if inner is None else self._find(inner, _USER_COMMENT)

    def value_of(self, entry: _Entry) -> bytes:
        size = _TYPE_BYTES.get(entry.type, 0) * entry.number
        start = entry.at + 8 if size <= 4 else entry.value
        if start + size > len(self.data):
            raise BadImage("its EXIF block is damaged (the comment leads outside)")
        return bytes(self.data[start : start + size])

    def set_comment(self, comment: bytes) -> None:
        entry = self.comment()
        if entry is None:
            self._insert_comment_entry()
            entry = self.comment()
            assert entry is not None
        elif len(self.value_of(entry)) > 4 and entry.value + len(self.value_of(entry)) == len(self.data):
            del self.data[entry.value :]  # the old text was the last thing in the block: the new one takes its place
        place = self._append(comment)
        struct.pack_into(f"{self.order}HLL", self.data, entry.at + 2, _UNDEFINED, len(comment), place)

    def _insert_comment_entry(self) -> None:
        """Moves the EXIF directory to the end, longer by an entry; makes one if there is none."""
        inner = self._inner()
        empty = struct.pack(f"{self.order}HL", 0, 0)
        place = self._append(self._with_entry(inner, _USER_COMMENT, _UNDEFINED, 0, 0) if inner is not None else empty)
        if inner is None:
            self.data[place:] = self._with_entry(place, _USER_COMMENT, _UNDEFINED, 0, 0)
        pointer = self._find(self._main(), _EXIF_IFD)
        if pointer is not None:
            struct.pack_into(f"{self.order}HLL", self.data, pointer.at + 2, _LONG, 1, place)
        else:
            main = self._append(self._with_entry(self._main(), _EXIF_IFD, _LONG, 1, place))
            struct.pack_into(f"{self.order}L", self.data, 4, main)

    def _with_entry(self, directory: int, tag: int, kind: int, size: int, value: int) -> bytes:
        """A copy of a directory with one more entry, in the order of the tags, and its link to the next directory."""
        number = self._count(directory)
        end = directory + 2 + 12 * number
        rows = [bytes(self.data[at : at + 12]) for at in range(directory + 2, end, 12)]
        rows.append(struct.pack(f"{self.order}HHLL", tag, kind, size, value))
        rows.sort(key=lambda row: struct.unpack(f"{self.order}H", row[:2])[0])
        link = bytes(self.data[end : end + 4]).ljust(4, b"\0")
        return struct.pack(f"{self.order}H", number + 1) + b"".join(rows) + link

    def _append(self, data: bytes) -> int:
        if len(self.data) % 2:
            self.data.append(0)  # offsets are even
        place = len(self.data)
        self.data += data
        return place

    def _main(self) -> int:
        return self._unpack("L", 4)

    def _inner(self) -> int | None:
        pointer = self._find(self._main(), _EXIF_IFD)
        return None if pointer is None else pointer.value

    def _find(self, directory: int, tag: int) -> _Entry | None:
        for at in range(directory + 2, directory + 2 + 12 * self._count(directory), 12):
            if self._unpack("H", at) == tag:
                return _Entry(at, self._unpack("H", at + 2), self._unpack("L", at + 4), self._unpack("L", at + 8))
        return None

    def _count(self, directory: int) -> int:
        number = self._unpack("H", directory)
        if directory + 2 + 12 * number > len(self.data):
            raise BadImage("its EXIF block is damaged (a directory leads outside)")
        return number

    def _unpack(self, form: str, at: int) -> int:
        form = self.order + form  # without an order, sizes are the processor's: eight bytes for "L"
        if at < 0 or at + struct.calcsize(form) > len(self.data):
            raise BadImage("its EXIF block is damaged (an offset leads outside)")
        return int(struct.unpack_from(form, self.data, at)[0])
