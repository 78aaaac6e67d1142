"""XMP: a packet of XML in which programs describe a picture (ISO 16684-1)."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_MOST_BYTES = 4 << 20
_NAMES = {
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
}
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def read_xmp(packet: bytes | str) -> dict[str, str]:
    """The texts of a packet by name, `exif:UserComment` for instance; an empty dict if it is damaged."""
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    if len(packet) > _MOST_BYTES or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:  # entities may grow without bound
        return {}
    start = re.search(rb"<(?:x:xmpmeta|rdf:RDF)\b", packet)
    end = max(packet.rfind(b"</x:xmpmeta>"), packet.rfind(b"</rdf:RDF>"))
    if start is None or end < 0:
        return {}
    try:
        root = ElementTree.fromstring(packet[start.start() : packet.index(b">", end) + 1])
    except (ElementTree.ParseError, ValueError, RecursionError):
        return {}
    found: dict[str, str] = {}
    for description in root.iter(f"{_RDF}Description"):
        for key, value in description.attrib.items():
            _put(found, key, value)
        for child in description:
            _put(
                found,
                child.tag,
                " ".join(text for text in ("".join(one.itertext()).strip() for one in _leaves(child)) if text),
            )
    return found


def _leaves(element: ElementTree.Element) -> list[ElementTree.Element]:
    """The items of a list; of alternatives in several languages the first."""
    alternatives = element.find(f"{_RDF}Alt")
    if alternatives is not None:
        return list(alternatives)[:1]
    return list(element.iter(f"{_RDF}li")) or [element]


def _put(found: dict[str, str], key: object, value: str) -> None:
    space, _, name = str(key).removeprefix("{").partition("}")
    if name and space in _NAMES and value.strip():
        found.setdefault(f"{_NAMES[space]}:{name}", value.strip())
