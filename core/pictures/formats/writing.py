"""Which of several encodings a text is in: the one in which it looks like writing."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterator

from ...infotext.parameters import split_text

_SAMPLE = 4096  # characters looked at
_CLEARLY, _ALIKE = 0.15, 0.02  # differences of likeness
_UTF16 = ("utf-16-be", "utf-16-le")
_NAMED = {
    b"UNICODE": (*_UTF16, "utf-8"),
    b"JIS\0\0\0\0": ("shift_jis", "iso2022_jp", "euc_jp", "utf-8", *_UTF16),
    b"ASCII\0\0": ("utf-8", *_UTF16),
    bytes(7): ("utf-8", *_UTF16),
}
# The characters of these tables are those that people use; the first rows of each hold the frequent ones.
_TABLES = (("gb2312", 0xB0, 0xD7), ("shift_jis", 0x88, 0x97), ("big5", 0xA4, 0xC6), ("euc_kr", 0xB0, 0xC8))
_ALPHABETS = (
    *((0x00A1, 0x024F), (0x0370, 0x05FF), (0x0600, 0x06FF), (0x0900, 0x0E7F), (0x1E00, 0x1FFF), (0x2010, 0x203E)),
    *((0x3001, 0x30FF), (0xFF01, 0xFF9F)),
)


def read_as_written(comment: bytes, order: str = "") -> tuple[str, str]:
    """(text, encoding) of a UserComment, with or without the eight bytes that name an encoding. Never fails."""
    code = comment[:8]
    encodings = next((named for name, named in _NAMED.items() if code[:7].upper() == name), None)
    text = comment if encodings is None else comment[8:]
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8)):
        encoding = "utf-8-sig" if text.startswith(codecs.BOM_UTF8) else "utf-16"
        low_first = text.startswith(codecs.BOM_UTF16_LE)
        return text.decode(encoding, "replace").strip("\0"), ("utf-16-le" if low_first else encoding)
    encodings = encodings or ("utf-8", *_UTF16)
    if encodings[0] == "shift_jis" and b"\x1b" in text:  # only ISO-2022-JP switches alphabets by escape sequences
        encodings = ("iso2022_jp",)
    readings = [(_repaired(reading), encoding) for reading, encoding in _readings(text, encodings, order)]
    best = max(readings, key=lambda reading: likeness(reading[0]))
    return best if _clearly_better(best[0], readings[0][0], order) else readings[0]


def likeness(text: str) -> float:
    """How much a text looks like writing, from about -1 to 1: the mean over its characters."""
    sample = text[:_SAMPLE]
    return sum(map(_weight, sample)) / len(sample) if sample else 0.0


def _readings(text: bytes, encodings: tuple[str, ...], order: str) -> Iterator[tuple[str, str]]:
    """The text in each of the encodings, the most usual first. Of two that look alike the block's byte order decides."""
    if encodings[0] in _UTF16 and order == "<":
        big, little = (likeness(text.decode(encoding, "replace").strip("\0")) for encoding in _UTF16)
        if abs(big - little) < _ALIKE and min(big, little) > 0:
            encodings = ("utf-16-le", "utf-16-be", *encodings[2:])
    for encoding in encodings:
        yield text.decode(encoding, "replace").strip("\0"), encoding


def _clearly_better(text: str, usual: str, order: str) -> bool:
    """Whether a reading replaces the usual one. Of a character or two only the byte order of the block can say so."""
    enough = 3 if order != "<" or len(text) != len(usual) else 2
    return len(text) >= enough and likeness(text) >= 0.75 and likeness(text) > likeness(usual) + _CLEARLY


def _repaired(text: str) -> str:
    """A text that was misread, got a label, and was written again: its letters lie in pairs in Chinese-looking characters."""
    body, settings = split_text(text)
    if not settings or likeness(body) > 0.5:
        return text
    pairs = body.encode("utf-16-be", "replace")
    found = max((pairs.decode(encoding, "replace") for encoding in ("utf-16-le", "utf-8")), key=likeness)
    better = _is_latin_prose(found) and likeness(found) > likeness(body) + 0.3
    return f"{found.rstrip(chr(0xFFFD))}\n{settings}" if better else text


def _is_latin_prose(text: str) -> bool:
    """Symbols and rare characters look like nothing as well, and so does what any of them would be misread from."""
    letters = sum(char.isascii() and (char.isalpha() or char in " ,.") for char in text)
    return len(text) >= 8 and letters >= 0.6 * len(text)


def _weight(char: str) -> float:
    code = ord(char)
    if 0x20 <= code < 0x7F or char in "\n\r\t":
        return 1.0
    if code < 0xA0 or code == 0xFFFD or unicodedata.category(char) in ("Cn", "Co", "Cs"):
        return -2.0
    if any(first <= code <= last for first, last in _ALPHABETS):
        return 0.9
    if 0x4E00 <= code <= 0x9FFF or 0xAC00 <= code <= 0xD7A3 or code == 0x3000:
        letter_misread = code % 0x100 == 0 and char not in "\u3000一"  # the zero byte of a Latin letter
        return 0.3 if letter_misread else max(_frequency(char, *table) for table in _TABLES)
    return 0.4 if code >= 0x1F300 else 0.0


def _frequency(char: str, encoding: str, first: int, last: int) -> float:
    try:
        lead = char.encode(encoding)[0]
    except UnicodeEncodeError:
        return 0.0
    return 0.95 if first <= lead <= last else 0.5
