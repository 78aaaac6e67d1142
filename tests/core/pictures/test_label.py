"""Labels are set in files of every format without touching anything else."""

from __future__ import annotations

import io
import json
import math
import os
import random
import stat
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, features
from sd_imagereward.core.errors import BadImage, ForeignText, ImageRewardError, UnwritableFile
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.formats import tiff
from sd_imagereward.core.pictures.formats.png import chunks
from sd_imagereward.core.pictures.label import label_file, labelled
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.pictures.texts import read_parameters, read_texts
from sd_imagereward.core.scoring.written import written_scores

FORMATS = ["png", "jpg", "webp", *(["avif"] if features.check("avif") else [])]
PARAMETERS = "a cat é 猫\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 40x24"
COMFY = {"prompt": '{"3": {"class_type": "KSampler"}}', "workflow": '{"nodes": []}'}


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    array = np.random.default_rng(seed).integers(0, 256, (24, 40, 4), dtype=np.uint8)
    return Image.fromarray(array, "RGBA").convert(mode)


def encoded(suffix: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture().save(out, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
    return out.getvalue()


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("parameters", [None, PARAMETERS])
def test_label_twice_changes_the_value_and_nothing_else(tmp_path: Path, suffix: str, parameters: str | None) -> None:
    path = tmp_path / f"cat.{suffix}"
    save_image(picture(), path, parameters=parameters, chunks=COMFY)
    os.chmod(path, 0o640)
    os.utime(path, ns=(10**18 + 7, 10**18 + 9))
    before, texts = path.read_bytes(), read_texts(path)
    assert label_file(path, {"ImageReward": 0.5812})
    assert label_file(path, {"ImageReward": -1.25, "PickScore": 0.25})
    first = path.read_bytes()
    assert not label_file(path, {"ImageReward": -1.25, "PickScore": 0.25})
    assert path.read_bytes() == first
    assert pixels(first) == pixels(before)
    after = read_parameters(path)
    assert written_scores(after) == {"ImageReward": -1.25}
    assert after.count("ImageReward") == 1
    assert "PickScore value: 0.2500" in after
    if parameters:
        old, new = parse_parameters(parameters), parse_parameters(after)
        assert (new.prompt, new.negative) == (old.prompt, old.negative)
        assert old.fields.items() <= new.fields.items()
    assert {name: text for name, text in read_texts(path).items() if name != "parameters"} == {
        name: text for name, text in texts.items() if name != "parameters"
    }
    assert path.stat().st_mtime_ns == 10**18 + 9
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"lossless": True, "exact": True, "alpha": True}])
def test_every_kind_of_webp(options: dict[str, bool]) -> None:
    out = io.BytesIO()
    picture("RGBA" if options.pop("alpha", False) else "RGB").save(out, "WEBP", **options)
    new = labelled(out.getvalue(), {"ImageReward": 1.0})
    assert pixels(new) == pixels(out.getvalue())
    assert Image.open(io.BytesIO(new)).mode == Image.open(out).mode


def test_animated_webp_and_icc_profile_stay() -> None:
    out = io.BytesIO()
    frames = [picture(seed=i) for i in range(3)]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], duration=50, icc_profile=b"profile!")
    new = Image.open(io.BytesIO(labelled(out.getvalue(), {"ImageReward": 1.0})))
    assert new.n_frames == 3
    assert new.info["icc_profile"] == b"profile!"


def test_labelling_often_does_not_grow_the_file() -> None:
    for suffix in FORMATS:
        once = labelled(encoded(suffix), {"ImageReward": 0.5})
        often = once
        for value in (0.25, 0.75, 0.5):
            often = labelled(often, {"ImageReward": value})
        assert often == once


def test_fooocus_json_stays_json() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    text = json.dumps({"prompt": "a cat", "base_model": "jugg.safetensors", "metadata_scheme": "fooocus"})
    info.add_text("parameters", text)
    new = labelled(encoded("png", pnginfo=info), {"ImageReward": 0.5})
    found = read_parameters(Image.open(io.BytesIO(new)))
    assert json.loads(found) == {**json.loads(text), "ImageReward": 0.5}
    assert written_scores(found) == {"ImageReward": 0.5}
    assert labelled(new, {"ImageReward": math.nan}) == new  # NaN is no number in JSON


# -- PNG: every other chunk --------------------------------------------------------------------------------------------

_KEYWORD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20).filter(
    lambda word: word != "parameters"
)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


@st.composite
def other_chunks(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"prVt", b"tIME", b"eXIf"]))
    keyword = draw(_KEYWORD).encode()
    text = draw(st.text(max_size=50)).replace("\0", "")
    if kind == b"tEXt":
        return png_chunk(kind, keyword + b"\0" + text.encode("latin-1", "replace"))
    if kind == b"zTXt":
        return png_chunk(kind, keyword + b"\0\0" + zlib.compress(text.encode("latin-1", "replace")))
    if kind == b"iTXt":
        return png_chunk(kind, keyword + b"\0\0\0en\0\0" + text.encode())
    if kind == b"prVt":
        return png_chunk(kind, draw(st.binary(max_size=40)))
    return png_chunk(kind, b"\x07\xea\x0b\x15\x01\x02\x03" if kind == b"tIME" else tiff.with_comment(None, "")[6:])


@settings(max_examples=60, deadline=None)
@given(
    before=st.lists(other_chunks(), max_size=4),
    after=st.lists(other_chunks(), max_size=3),
    text=st.one_of(st.none(), st.text(max_size=80)),
    kind=st.sampled_from(["tEXt", "zTXt", "iTXt"]),
    value=st.floats(-100, 100),
    tail=st.binary(max_size=5),
)
def test_png_chunks_stay_byte_for_byte(
    before: list[bytes], after: list[bytes], text: str | None, kind: str, value: float, tail: bytes
) -> None:
    plain = encoded("png")
    own = b""
    if text is not None:
        raw = text.replace("\0", "")
        latin = raw.encode("latin-1", "replace")
        own = {
            "tEXt": png_chunk(b"tEXt", b"parameters\0" + latin),
            "zTXt": png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(latin)),
            "iTXt": png_chunk(b"iTXt", b"parameters\0\1\0de\0Parameter\0" + zlib.compress(raw.encode())),
        }[kind]
    data = plain[:33] + b"".join(before) + own + plain[33:-12] + b"".join(after) + plain[-12:] + tail
    new = labelled(data, {"ImageReward": value})

    def others(png: bytes) -> list[bytes]:
        return [png[c.start : c.end] for c in chunks(png) if not c.body.startswith(b"parameters\0")]

    assert others(new) == others(data)
    assert new.endswith(plain[-12:] + tail)
    assert sum(c.body.startswith(b"parameters\0") for c in chunks(new)) == 1
    found = written_scores(Image.open(io.BytesIO(new)).text["parameters"])
    assert found == {"ImageReward": pytest.approx(value, abs=1e-4)}


# -- EXIF: every other entry -------------------------------------------------------------------------------------------

_TAGS = [0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, 0xC4A5]
_INNER = [0x9003, 0x9004, 0x927C, 0xA420, 0xA430]  # 0x927C: the maker's note


@st.composite
def exif_blocks(draw: st.DrawFn) -> tuple[bytes, dict[str, dict[int, bytes]]]:
    """A TIFF structure with a thumbnail directory, in either byte order, and what its entries hold."""
    order = draw(st.sampled_from("<>"))
    rows = {"main": draw(st.dictionaries(st.sampled_from(_TAGS), st.binary(min_size=1, max_size=30), max_size=5))}
    inner = draw(
        st.one_of(st.none(), st.dictionaries(st.sampled_from(_INNER), st.binary(min_size=1, max_size=30), max_size=4))
    )
    rows["thumb"] = draw(st.dictionaries(st.sampled_from(_TAGS), st.binary(min_size=1, max_size=9), max_size=2))
    data = bytearray(struct.pack(f"{order}2sHL", {"<": b"II", ">": b"MM"}[order], 42, 0))

    def put(entries: dict[int, bytes], extra: tuple[tuple[int, int], ...] = (), link: int = 0) -> int:
        packed = []
        for tag, value in entries.items():
            if len(value) <= 4:
                packed.append(struct.pack(f"{order}HHL", tag, 7, len(value)) + value.ljust(4, b"\0"))
            else:
                packed.append(struct.pack(f"{order}HHLL", tag, 7, len(value), len(data)))
                data.extend(value)
        packed += [struct.pack(f"{order}HHLL", tag, 4, 1, place) for tag, place in extra]
        packed.sort(key=lambda row: struct.unpack(f"{order}H", row[:2]))
        place = len(data)
        data.extend(struct.pack(f"{order}H", len(packed)) + b"".join(packed) + struct.pack(f"{order}L", link))
        return place

    thumb = put(rows["thumb"])
    extra: tuple[tuple[int, int], ...] = ()
    if inner is not None:
        rows["inner"] = dict(inner)
        if draw(st.booleans()):
            inner[0x9286] = tiff.encode_comment(draw(st.text(max_size=20)).replace("\0", ""))
        extra = ((0x8769, put(inner)),)
    main = put(rows["main"], extra, thumb)
    struct.pack_into(f"{order}L", data, 4, main)
    return bytes(data), rows


def entries(block: bytes, place: int, order: str) -> tuple[dict[int, bytes], int]:
    (count,) = struct.unpack_from(f"{order}H", block, place)
    found, tags = {}, []
    for at in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHL", block, at)
        size = number * (4 if kind == 4 else 1)
        start = at + 8 if size <= 4 else struct.unpack_from(f"{order}L", block, at + 8)[0]
        found[tag] = block[start : start + size]
        tags.append(tag)
    assert tags == sorted(tags)
    return found, struct.unpack_from(f"{order}L", block, place + 2 + 12 * count)[0]


@settings(max_examples=60, deadline=None)
@given(made=exif_blocks(), text=st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=60))
def test_exif_entries_stay(made: tuple[bytes, dict[str, dict[int, bytes]]], text: str) -> None:
    old, rows = made
    text = text.replace("\0", "") + "."
    block = tiff.with_comment(tiff.with_comment(old, "something else"), text)
    order = {b"II": "<", b"MM": ">"}[block[:2]]
    main, thumb = entries(block, struct.unpack_from(f"{order}L", block, 4)[0], order)
    inner, _ = entries(block, struct.unpack(f"{order}L", main.pop(0x8769))[0], order)
    comment = inner.pop(0x9286)
    assert main == rows["main"]
    assert entries(block, thumb, order)[0] == rows["thumb"]
    assert inner == rows.get("inner", {})
    # The order of its bytes is that of the comment before, which may be either.
    assert comment in [b"UNICODE\0" + text.encode(codec) for codec in ("utf-16-be", "utf-16-le")]


@pytest.mark.parametrize("suffix", FORMATS)
def test_camera_exif_is_kept(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A camera", 6
    exif.get_ifd(0x8825)[2] = (51.0, 30.0, 0.0)
    data = encoded(suffix, exif=exif.tobytes())
    new = Image.open(io.BytesIO(labelled(data, {"ImageReward": 0.5}))).getexif()
    assert new[0x010F] == "A camera"
    assert new[0x0112] == 6
    old = Image.open(io.BytesIO(data)).getexif()
    assert dict(new.get_ifd(0x8825)) == dict(old.get_ifd(0x8825))  # Pillow 9.5 wrote none


def test_a_jpeg_without_room_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "full.jpg"
    path.write_bytes(encoded("jpg", exif=tiff.with_comment(None, "x, " * 10900)))
    before = path.read_bytes()
    with pytest.raises(ImageRewardError, match="has room for 65533 bytes"):
        label_file(path, {"ImageReward": 0.5})
    assert path.read_bytes() == before


def comment(raw: bytes) -> bytes:
    """An EXIF block with these bytes as its UserComment."""
    block = Image.Exif()
    block[0x8769] = {0x9286: raw}
    return block.tobytes()


SWARM = '{"sui_image_params": {"prompt": "a red fox", "seed": 1}}'


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize(
    "raw",
    [
        b"ASCII\0\0\0" + "café".encode("latin-1"),
        b"\x01\x02\xff\xfe\x80 a camera's own",
        b"UNICODE\0" + b"a fox",
        b"UNICODE\0a",
        b"JIS\0\0\0\0\0" + "狐".encode("iso2022_jp"),
    ],
)
def test_a_comment_that_is_not_understood_is_left_alone(tmp_path: Path, suffix: str, raw: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(suffix, exif=comment(raw)))
    before = path.read_bytes()
    with pytest.raises(ForeignText, match="left as it is"):
        label_file(path, {"ImageReward": 0.5})
    assert path.read_bytes() == before


def test_swarmui_can_read_its_parameters_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("jpg", exif=comment(b"UNICODE\0" + SWARM.encode("utf-16-le"))))
    with suppress(ForeignText):
        label_file(path, {"ImageReward": 0.5})
    raw = Image.open(path).getexif().get_ifd(0x8769)[0x9286]
    assert json.loads(raw[8:].decode("utf-16-le"))["sui_image_params"]["prompt"] == "a red fox"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"ASCII\0\0\0a fox\0\0", "a fox"),
        (b"ASCII\0\0\0" + bytes(20), ""),
        (b"ASCII\0\0\0" + b" " * 20, ""),
        ("a fox, élan".encode(), "a fox, élan"),
        (b"UNICODE\0" + "赤い狐".encode("utf-16-be"), "赤い狐"),
        (b"UNICODE\0" + "a 🦊".encode("utf-16-be"), "a 🦊"),
    ],
)
def test_a_comment_that_is_understood_gets_the_score(tmp_path: Path, raw: bytes, text: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("jpg", exif=comment(raw)))
    label_file(path, {"ImageReward": 0.5})
    assert read_parameters(path).strip().startswith(text)
    assert "ImageReward: 0.5000" in read_parameters(path)


def test_a_png_text_that_is_not_in_its_encoding_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    texts = PngImagePlugin.PngInfo()
    texts.add(b"iTXt", b"parameters\0\0\0\0\0caf\xe9")
    picture().save(path, pnginfo=texts)
    before = path.read_bytes()
    with pytest.raises(ForeignText, match="not UTF-8"):
        label_file(path, {"ImageReward": 0.5})
    assert path.read_bytes() == before


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_file_is_refused_and_left_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    save_image(picture(), path, parameters=PARAMETERS)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageRewardError):
            label_file(path, {"ImageReward": 0.5})
        assert path.read_bytes() == whole[:length]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_fuzzed_file_is_labelled_losslessly_or_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"fuzz.{suffix}"
    save_image(picture(), path, parameters=PARAMETERS)
    whole, chance = path.read_bytes(), random.Random(suffix)
    refused = 0
    for _ in range(80):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            label_file(path, {"ImageReward": 0.5})
        except ImageRewardError:
            refused += 1
            assert path.read_bytes() == data
            continue
        assert decoded(path.read_bytes()) == decoded(bytes(data))
    assert refused


def decoded(data: bytes) -> bytes | None:
    try:
        return pixels(data)
    except Exception:  # what does not decode now did not decode before
        return None


def test_a_jpegs_remark_stays_and_is_no_prompt(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture().save(path, comment=b"Created with GIMP")
    label_file(path, {"ImageReward": 0.5})
    assert "GIMP" not in read_parameters(path)
    assert Image.open(path).info["comment"] == b"Created with GIMP"
    picture().save(path, comment=PARAMETERS.encode())
    label_file(path, {"ImageReward": 0.5})
    assert read_parameters(path).startswith(PARAMETERS)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    picture().save(path)
    with pytest.raises(BadImage, match="expected a PNG, JPEG, WebP or AVIF"):
        label_file(path, {"ImageReward": 0.5})


def test_what_a_label_cannot_keep_is_not_labelled(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("png"))
    os.link(path, tmp_path / "b.png")
    with pytest.raises(UnwritableFile, match="hard links"):
        label_file(path, {"ImageReward": 0.5})
    (tmp_path / "b.png").unlink()
    path.chmod(0o444)
    with pytest.raises(UnwritableFile, match="read-only"):
        label_file(path, {"ImageReward": 0.5})
    assert path.read_bytes() == encoded("png")
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="extended attributes as Linux has them")
def test_extended_attributes_and_times_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("png"))
    try:
        os.setxattr(path, "user.xdg.comment", b"mine")
    except OSError:
        pytest.skip("a file system without extended attributes")
    os.utime(path, (1_500_000_000, 1_500_000_000))
    assert label_file(path, {"ImageReward": 0.5})
    assert os.getxattr(path, "user.xdg.comment") == b"mine"
    assert path.stat().st_mtime == 1_500_000_000


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("png"))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no room"):
        label_file(path, {"ImageReward": 0.5})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
