"""The parts of files that real cameras and programs write seldom: each format's reading against its specification."""

from __future__ import annotations

import io
import logging
import struct

import pytest
from PIL import Image, features
from sd_imagereward.core.errors import BadImage
from sd_imagereward.core.pictures.formats import avif, exif, jpeg, tiff
from sd_imagereward.core.pictures.formats.writing import likeness
from sd_imagereward.core.pictures.formats.xmp import read_xmp

TYPES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
}  # bytes of each (TIFF 6.0, section 2)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description '
)
XMP += b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="a fox"/></r:RDF></x:xmpmeta>'


def encoded(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((48, 32), 60).convert("RGB").save(out, kind, **options)
    return out.getvalue()


def block(comment: bytes, kind: int = 7, number: int | None = None) -> bytes:
    """A TIFF structure that holds a UserComment and nothing else."""
    made = bytearray(tiff.with_comment(None, "x").removeprefix(tiff.EXIF_HEADER)[:44])
    struct.pack_into(">HL", made, 30, kind, len(comment) if number is None else number)
    return bytes(made) + comment


@pytest.mark.parametrize(("kind", "size"), TYPES.items())
def test_a_comment_of_any_type_is_as_long_as_its_type_says(kind: int, size: int) -> None:
    comment = b"UNICODE\0" + "a red fox in snow, b".encode("utf-16-be")
    assert tiff.comment_of(block(comment + b"\0!\0!", kind, len(comment) // size)) == "a red fox in snow, b"


@pytest.mark.parametrize("damage", [b"XX\0*", b"MM\0+", b"II\0*", b"MM"])
def test_exif_without_a_header_is_damaged(damage: bytes) -> None:
    rest = block(b"")[4:] if len(damage) == 4 else b""
    with pytest.raises(BadImage, match="no TIFF header"):
        tiff.comment_of(damage + rest)


@pytest.mark.parametrize("missing", [1, 5, 11])
def test_a_directory_that_leads_outside_is_damaged(missing: int) -> None:
    directory = struct.pack(">HHHLL", 1, 0x010F, 7, 1, 0)
    whole = struct.pack(">2sHL", b"MM", 42, 8) + directory
    assert tiff.comment_of(whole) == ""
    with pytest.raises(BadImage, match="a directory leads outside"):
        tiff.comment_of(whole[:-missing])


def test_a_directory_may_be_the_last_thing_in_the_block() -> None:
    """Some programs leave out the link to the next directory."""
    inner = struct.pack(">HHHL4sL", 1, 0x9286, 7, 4, b"fox\0", 0)
    assert (
        tiff.comment_of(struct.pack(">2sHL", b"MM", 42, 26) + inner + struct.pack(">HHHLL", 1, 0x8769, 4, 1, 8))
        == "fox"
    )


def test_texts_without_a_place_in_exif_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        exif.write_texts(Image.Exif(), "", dict.fromkeys(("prompt", "workflow", "a", "b", "c", "d"), "{}"))
    assert [record.getMessage() for record in caplog.records] == ["EXIF has no place for c, d: left out."]


@pytest.mark.parametrize(("text", "order", "read"), [("fox", ">", "fox"), ("ab", "<", "ab"), ("ab", ">", "愀戀")])
def test_few_characters_are_read_the_other_way_only_where_that_is_clear(text: str, order: str, read: str) -> None:
    assert exif.decode_comment(b"UNICODE\0" + text.encode("utf-16-le"), order) == read


def test_what_could_not_be_decoded_looks_like_no_writing() -> None:
    assert likeness("\ufffd" * 3) < 0 < likeness("fox")


def test_segments_of_other_programs_are_no_exif() -> None:
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    data = encoded("JPEG")
    data = data[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(xmp) + 2) + xmp + data[2:]
    assert jpeg.exif_of(data) is None
    labelled = jpeg.with_exif(data, tiff.with_comment(None, "a fox"))
    assert xmp in labelled
    assert tiff.comment_of(jpeg.exif_of(labelled)) == "a fox"


def test_exif_of_a_jpeg_comes_right_behind_its_first_segment() -> None:
    labelled = jpeg.with_exif(encoded("JPEG"), tiff.with_comment(None, "a fox"))
    assert [one.marker for one in jpeg.segments(labelled)][:3] == [0xE0, 0xE1, 0xDB]


def test_a_segment_may_end_with_what_there_is_of_a_file() -> None:
    comment = struct.pack(">BBH", 0xFF, 0xFE, 5) + b"fox"
    assert next(jpeg.segments(b"\xff\xd8" + comment)).body == b"fox"
    with pytest.raises(BadImage, match="cut off"):
        list(jpeg.segments(b"\xff\xd8" + comment[:-1]))


def test_xmp_is_read_up_to_four_megabytes() -> None:
    for megabytes, found in ((3, {"dc:title": "a fox"}), (5, {})):
        assert read_xmp(XMP + b" " * (megabytes << 20)) == found


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_keeps_its_alpha_when_it_gets_its_first_exif() -> None:
    picture = Image.effect_noise((48, 32), 60).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((48, 32)))
    out = io.BytesIO()
    picture.save(out, "AVIF")
    new = avif.with_exif(out.getvalue(), tiff.with_comment(None, "a fox"))
    assert tiff.comment_of(avif.exif_of(new)) == "a fox"
    assert new.count(b"auxl") == out.getvalue().count(b"auxl") == 1  # the alpha is of the picture
    assert new.count(b"cdsc") == 1  # and so is the EXIF
    assert Image.open(io.BytesIO(new)).tobytes() == Image.open(out).tobytes()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("version", [1, 2])
def test_avif_with_later_versions_of_iloc(version: int) -> None:
    data = _with_iloc(encoded("AVIF", exif=tiff.with_comment(None, "a fox")), version)
    assert tiff.comment_of(avif.exif_of(data)) == "a fox"
    new = avif.with_exif(data, tiff.with_comment(None, "a red fox"))
    assert tiff.comment_of(avif.exif_of(new)) == "a red fox"
    start = new.index(b"iloc")
    assert new[start + 4] == version
    assert new[: data.index(b"iloc")] == data[: data.index(b"iloc")]


def _with_iloc(data: bytes, version: int) -> bytes:
    """The file with its `iloc` box, as Pillow writes it in version 0, in a later one (ISO/IEC 14496-12, 8.11.3)."""
    start = data.index(b"iloc") - 4
    size = struct.unpack_from(">L", data, start)[0]
    assert data[start + 8] == 0
    sizes, count = struct.unpack_from(">HH", data, start + 12)
    assert sizes == 0x4400  # offsets and lengths of four bytes, no base
    rows, at = [], start + 16
    for _ in range(count):
        identity, reference, extents = struct.unpack_from(">HHH", data, at)
        assert extents == 1
        rows.append((identity, reference, *struct.unpack_from(">LL", data, at + 6)))
        at += 14
    wide = "L" if version == 2 else "H"
    row = struct.Struct(f">{wide}HHHLL")
    grown = 8 + struct.calcsize(f">LH{wide}") + len(rows) * row.size - size
    body = struct.pack(f">LH{wide}", version << 24, sizes, count)
    body += b"".join(row.pack(one, 0, reference, 1, place + grown, length) for one, reference, place, length in rows)
    meta = data.index(b"meta") - 4
    longer = struct.pack(">L", struct.unpack_from(">L", data, meta)[0] + grown)
    box = struct.pack(">L4s", size + grown, b"iloc") + body
    return data[:meta] + longer + data[meta + 4 : start] + box + data[start + size :]
