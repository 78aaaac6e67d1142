"""AVIF: boxes (ISO/IEC 14496-12); EXIF is an item of the `meta` box whose bytes the `iloc` box points to (ISO/IEC 23008-12).

A new text goes into a box of its own at the end of the file, and `iloc` is pointed there, so the coded picture stays where
it is. A file without EXIF gets the item: `meta` grows, and what lies behind it moves with all offsets that point to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ...errors import BadImage, ImageRewardError
from .tiff import EXIF_HEADER


class Box(NamedTuple):
    kind: bytes
    start: int
    body: int  # where its content begins
    end: int


@dataclass
class Item:
    """One entry of `iloc`: where the bytes of an item are."""

    id: int
    method: int = 0  # 0: offsets count from the start of the file
    reference: int = 0
    base: int = 0
    extents: list[tuple[int, int, int]] = field(default_factory=list)  # (index, offset, length)


@dataclass
class Locations:
    """The `iloc` box: how wide its numbers are, and its items."""

    version: int
    widths: tuple[int, int, int, int]  # bytes of offset, length, base offset, index
    items: list[Item]


def recognises(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and (data[8:12] in (b"avif", b"avis", b"mif1", b"msf1"))


def other_text(data: bytes) -> str:
    return ""


def exif_of(data: bytes) -> bytes | None:
    meta = _only(data, 0, len(data), b"meta")
    identity = _exif_id(data, meta)
    if identity is None:
        return None
    _, item = _location(data, meta, identity)
    _, offset, length = item.extents[0]
    payload = data[item.base + offset : item.base + offset + length]
    if len(payload) != length or length < 4:
        raise BadImage("the AVIF file is cut off")
    return payload[4 + struct.unpack_from(">L", payload)[0] :]


def with_exif(data: bytes, exif: bytes) -> bytes:
    meta = _only(data, 0, len(data), b"meta")
    last = list(_boxes(data, 0, len(data)))[-1]
    if last.end == len(data) and struct.unpack_from(">L", data, last.start)[0] == 0:
        raise ImageRewardError("the last box of the AVIF file has no length, so nothing can follow it")
    payload = struct.pack(">L", 0) + exif.removeprefix(EXIF_HEADER)
    identity = _exif_id(data, meta)
    if identity is None:
        return _with_new_item(data, meta, payload)
    place, item = _location(data, meta, identity)
    _, offset, length = item.extents[0]
    if last.kind == b"mdat" and (last.body, last.end) == (item.base + offset, item.base + offset + length):
        data = data[: last.start]  # an earlier label's box
    item.extents = [(item.extents[0][0], len(data) + 8 - item.base, len(payload))]
    locations = _read_locations(data, place)
    locations.items = [item if one.id == item.id else one for one in locations.items]
    return data[: place.start] + _packed_locations(locations) + data[place.end :] + _box(b"mdat", payload)


def _with_new_item(data: bytes, meta: Box, payload: bytes) -> bytes:
    if any(box.kind == b"moov" for box in _boxes(data, 0, len(data))):
        raise ImageRewardError("an animated AVIF file without EXIF has no place for one")
    place = _only(data, meta.body + 4, meta.end, b"iloc")
    locations = _read_locations(data, place)
    primary = _primary_id(data, meta)
    identity = max([one.id for one in locations.items], default=0) + 1
    new = Item(identity, extents=[(0, 0, len(payload))])
    locations.items.append(new)
    inner = b""
    references = _reference(identity, primary)
    for box in _boxes(data, meta.body + 4, meta.end):
        whole = data[box.start : box.end]
        if box.kind == b"iinf":
            inner += _with_item_info(data, box, identity)
        elif box.kind == b"iref":
            if data[box.body] != 0:
                raise ImageRewardError("the AVIF file has item references of a kind not known here")
            inner += _box(b"iref", data[box.body : box.end] + references)
            references = b""
        elif box.kind == b"iloc":
            inner += _packed_locations(locations)  # replaced below, once it is known how far things move
        else:
            inner += whole
    inner += _box(b"iref", bytes(4) + references) if references else b""
    moved = meta.start + 8 + 4 + len(inner) - meta.end
    old = _packed_locations(locations)
    for one in locations.items[:-1]:
        _move(one, meta.end, moved)
    new.extents = [(0, len(data) + moved + 8, len(payload))]
    header = data[meta.body : meta.body + 4]
    grown = _box(b"meta", header + inner.replace(old, _packed_locations(locations), 1))
    return data[: meta.start] + grown + data[meta.end :] + _box(b"mdat", payload)


def _move(item: Item, after: int, by: int) -> None:
    if item.method != 0:
        return  # counts from the start of `idat`, inside `meta`
    if any(item.base + offset < after for _, offset, _ in item.extents):
        raise ImageRewardError("the AVIF file keeps its picture in an order not known here")
    if item.base:
        item.base += by
    else:
        item.extents = [(index, offset + by, length) for index, offset, length in item.extents]


def _location(data: bytes, meta: Box, identity: int) -> tuple[Box, Item]:
    place = _only(data, meta.body + 4, meta.end, b"iloc")
    item = next((one for one in _read_locations(data, place).items if one.id == identity), None)
    if item is None or item.method != 0 or len(item.extents) != 1:
        raise ImageRewardError("the AVIF file keeps its EXIF in a way not known here")
    return place, item


# -- boxes -------------------------------------------------------------------------------------------------------------


def _boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    at = start
    while at + 8 <= end:
        size, kind = struct.unpack_from(">L4s", data, at)
        body = at + 8
        if size == 1:
            size, body = struct.unpack_from(">Q", data, at + 8)[0], at + 16
        stop = at + size if size else end
        if stop > end or stop < body:
            raise BadImage("the AVIF file is damaged or cut off")
        yield Box(kind, at, body, stop)
        at = stop
    if at != end:
        raise BadImage("the AVIF file is damaged or cut off")


def _only(data: bytes, start: int, end: int, kind: bytes) -> Box:
    found = [box for box in _boxes(data, start, end) if box.kind == kind]
    if len(found) != 1:
        raise BadImage(f"expected one {kind.decode()} box in the AVIF file, found {len(found)}")
    return found[0]


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", 8 + len(body)) + kind + body


def _exif_id(data: bytes, meta: Box) -> int | None:
    info = _only(data, meta.body + 4, meta.end, b"iinf")
    for box in _boxes(data, info.body + (6 if data[info.body] == 0 else 8), info.end):
        version = data[box.body]
        wide = version >= 3
        kind = data[box.body + (10 if wide else 8) :][:4]
        if version >= 2 and kind == b"Exif":
            return int(struct.unpack_from(">L" if wide else ">H", data, box.body + 4)[0])
    return None


def _primary_id(data: bytes, meta: Box) -> int:
    box = _only(data, meta.body + 4, meta.end, b"pitm")
    return int(struct.unpack_from(">L" if data[box.body] else ">H", data, box.body + 4)[0])


def _with_item_info(data: bytes, info: Box, identity: int) -> bytes:
    version = data[info.body]
    form = ">H" if version == 0 else ">L"
    count = struct.unpack_from(form, data, info.body + 4)[0]
    start = info.body + 4 + struct.calcsize(form)
    entry = _box(b"infe", struct.pack(">LHH4s", 2 << 24 | 1, identity, 0, b"Exif") + b"\0")  # flag 1: not to be shown
    return _box(
        b"iinf", data[info.body : info.body + 4] + struct.pack(form, count + 1) + data[start : info.end] + entry
    )


def _reference(identity: int, primary: int) -> bytes:
    """ "The EXIF describes the picture"."""
    return _box(b"cdsc", struct.pack(">HHH", identity, 1, primary))


# -- iloc --------------------------------------------------------------------------------------------------------------


def _read_locations(data: bytes, box: Box) -> Locations:
    reader = _Reader(data, box.body, box.end)
    version = reader.number(1)
    reader.number(3)
    sizes = reader.number(2)
    offset, length, base, index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    index = index if version in (1, 2) else 0
    wide = 4 if version == 2 else 2
    items = []
    for _ in range(reader.number(wide)):
        item = Item(reader.number(wide))
        item.method = reader.number(2) & 15 if version in (1, 2) else 0
        item.reference = reader.number(2)
        item.base = reader.number(base)
        extents = reader.number(2)
        item.extents = [(reader.number(index), reader.number(offset), reader.number(length)) for _ in range(extents)]
        items.append(item)
    return Locations(version, (offset, length, base, index), items)


def _packed_locations(locations: Locations) -> bytes:
    version, (offset, length, base, index) = locations.version, locations.widths
    wide = 4 if version == 2 else 2
    body = _number(version, 1) + bytes(3) + _number(offset << 12 | length << 8 | base << 4 | index, 2)
    body += _number(len(locations.items), wide)
    for item in locations.items:
        body += _number(item.id, wide) + (_number(item.method, 2) if version in (1, 2) else b"")
        body += _number(item.reference, 2) + _number(item.base, base) + _number(len(item.extents), 2)
        for place, at, size in item.extents:
            body += _number(place, index) + _number(at, offset) + _number(size, length)
    return _box(b"iloc", body)


class _Reader:
    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def number(self, width: int) -> int:
        if self.at + width > self.end:
            raise BadImage("the AVIF file is damaged")
        self.at += width
        return int.from_bytes(self.data[self.at - width : self.at], "big")


def _number(value: int, width: int) -> bytes:
    try:
        return value.to_bytes(width, "big")
    except OverflowError:
        raise ImageRewardError("the AVIF file's offsets are too narrow for it") from None
