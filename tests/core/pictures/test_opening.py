from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import PARAMETERS, exif, small_picture
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from sd_imagereward.core.errors import BadImage, ImageRewardError, ImageUnavailable
from sd_imagereward.core.pictures import opening
from sd_imagereward.core.pictures.bands import Bands
from sd_imagereward.core.pictures.formats import table
from sd_imagereward.core.pictures.label import label_file
from sd_imagereward.core.pictures.opening import content_hash, open_header, open_image, open_picture, read_file
from sd_imagereward.core.pictures.pixels import to_pixels
from sd_imagereward.core.pictures.prompt_in_file import find_origin
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.pictures.scan import scan
from sd_imagereward.core.pictures.texts import read_parameters, read_texts

GRAPH = '{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}}, "note": "%s"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    save_image(small_picture(), path, parameters=PARAMETERS)
    return path


def test_a_file_is_opened_once_for_its_prompt_and_its_pixels(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(opening, "read_file", lambda name: (opened.append(name), read_file(name))[1])
    picture = open_picture(path)
    assert picture.data == path.read_bytes()
    assert picture.hash == content_hash(path.read_bytes())
    assert find_origin(path, picture.image).plain == "a cat"
    assert torch.equal(to_pixels(picture), to_pixels(small_picture()))
    assert opened == [path]
    with pytest.raises(AttributeError):
        picture.path = path  # type: ignore[misc]


# -- what is of the moment ---------------------------------------------------------------------------------------------


def test_what_is_missing_is_no_fact_about_a_picture(tmp_path: Path) -> None:
    for name in ("gone.png", "a\0b.png", "x" * 300 + ".png"):
        with pytest.raises(ImageUnavailable):
            open_picture(tmp_path / name)
    with pytest.raises(ImageUnavailable, match="found a folder"):
        open_picture(tmp_path)


@pytest.mark.parametrize(
    "error", [PermissionError(13, "The process cannot access the file"), OSError(5, "Input/output error")]
)
def test_a_file_that_is_held_is_unavailable(path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(ImageUnavailable, match=str(error.strerror)):
            open_picture(path)
        with pytest.raises(ImageUnavailable):
            read_texts(path)
        with pytest.raises(ImageUnavailable):
            label_file(path, {"ImageReward": 0.5})
    assert open_picture(path).image.size == (40, 30)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_and_a_device_are_refused_without_reading(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(ImageUnavailable, match="found a pipe, socket or device"):
            open_picture(tmp_path / name)


def test_a_file_that_is_still_written_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.fstat

    def grow_after(descriptor: int) -> os.stat_result:
        status = plain(descriptor)
        with open(path, "ab") as file:
            file.write(b"more")
        return status

    monkeypatch.setattr(os, "fstat", grow_after)
    with pytest.raises(ImageUnavailable, match="changed while it was read"):
        open_picture(path)


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "least", "said"),
    [
        ("IMAGEREWARD_MAX_PIXELS", 1200, "1,200 pixels are more than the limit of 1,199"),
        ("IMAGEREWARD_MAX_SIDE", 40, "40 pixels a side are more than the limit of 39"),
        ("IMAGEREWARD_MAX_FILE_BYTES", 0, "bytes are more than the limit"),
        ("IMAGEREWARD_MAX_TEXT_BYTES", len(PARAMETERS), "bytes of text are more than the limit"),
    ],
)
def test_each_limit_says_what_changes_it(
    variable: str, least: int, said: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = least or path.stat().st_size
    monkeypatch.setenv(variable, str(least))
    open_picture(path)
    monkeypatch.setenv(variable, str(least - 1))
    with pytest.raises(ImageUnavailable, match=f"{said}.*set {variable}={least} in the environment"):
        open_picture(path)
    monkeypatch.setenv(variable, "much")
    with pytest.raises(ImageRewardError, match=f"expected a whole number of .* in {variable}, got 'much'"):
        open_picture(path)


def png_file(width: int, height: int, colour: int) -> bytes:
    """A black PNG with 8 bits a sample; colour: 0 grey, 2 RGB."""
    row = bytes(1 + width * (3 if colour == 2 else 1))
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">LLBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    packed = [struct.pack(">L", len(b)) + k + b + struct.pack(">L", zlib.crc32(k + b)) for k, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_180_megapixels_are_read_and_pillow_stays_as_it_is(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    path = tmp_path / "large.png"
    path.write_bytes(png_file(13400, 13450, 0))
    assert to_pixels(path, 224).shape == (3, 224, 224)
    assert before == (Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_a_large_picture_never_exists_twice(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "large.png"
    path.write_bytes(png_file(9000, 9000, 2))
    to_pixels(small_picture(), 224)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    to_pixels(path, 224)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kilobytes < 4.8 * 9000 * 9000 / 1024  # Pillow's own four bytes a pixel, and a band


def test_decoders_that_hold_a_picture_several_times_get_a_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEREWARD_MAX_PIXELS", str(3 * 1200 - 1))
    for options in ({"format": "WEBP"}, {"format": "JPEG", "progressive": True}):
        small_picture().save(tmp_path / "a", **options)
        with pytest.raises(ImageUnavailable, match="IMAGEREWARD_MAX_PIXELS=3600"):
            open_picture(tmp_path / "a")
    small_picture().save(tmp_path / "a", format="JPEG")
    open_picture(tmp_path / "a")


def test_texts_and_profiles_beyond_pillows_megabyte_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    graph = GRAPH % ("x" * 3_000_000)
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", graph, zip=True)
    texts.add_itxt("é", "ü" * 1_100_000, "de", "Schlüssel", zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "<x/>")
    texts.add(b"tEXt", b"after the pixels\0yes", after_idat=True)
    small_picture().save(path, pnginfo=texts, icc_profile=bytes(2_000_000))
    picture = open_picture(path)
    assert find_origin(path, picture.image).plain == find_origin(path).plain == "a fox"
    assert read_texts(path) == {
        "prompt": graph,
        "é": "ü" * 1_100_000,
        "XML:com.adobe.xmp": "<x/>",
        "after the pixels": "yes",
    }
    assert picture.image.info["icc_profile"] == bytes(2_000_000)
    assert picture.image.info["xmp"] == b"<x/>"
    assert (picture.image.info["é"].lang, picture.image.info["é"].tkey) == ("de", "Schlüssel")
    assert label_file(path, {"ImageReward": 0.5})
    assert "ImageReward: 0.5000" in read_parameters(path)


def test_a_text_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEREWARD_MAX_TEXT_BYTES", "1000000")
    path = tmp_path / "a.png"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("one", "x" * 600_000, zip=True)
    texts.add_text("two", "y" * 600_000, zip=True)
    small_picture().save(path, pnginfo=texts)
    for read in (open_picture, read_texts):
        with pytest.raises(ImageUnavailable, match="IMAGEREWARD_MAX_TEXT_BYTES"):
            read(path)


def test_a_decoders_name_for_bytes_in_memory_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: io.BytesIO, name: str) -> None:
        raise UnidentifiedImageError(f"cannot identify image file {file!r}")

    monkeypatch.setattr(opening, "opener_of", lambda row, data: broken)
    with pytest.raises(BadImage, match=r"^cannot read the image as an image: cannot identify image file$"):
        open_picture("the image", b"\xff\xd8\xff")


# -- orientation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_turn_as_pillow_does(orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 47, 3), dtype=np.uint8)
    out = io.BytesIO()
    block = Image.Exif()
    block[0x0112] = orientation
    Image.fromarray(pixels).save(out, "PNG", exif=block)
    image = open_picture("a.png", out.getvalue())
    turned = np.asarray(image.upright)
    assert image.upright.size == (image.width, image.height)
    assert (image.width, image.height) == ((47, 30) if orientation < 5 else (30, 47))
    bands = Bands(image.image, upright=True)
    assert np.array_equal(np.asarray(bands.crop(3, 5, 22, 28)), turned[5:28, 3:22])
    for size in (None, 24):
        assert torch.equal(to_pixels(image, size), to_pixels(Image.fromarray(turned), size))
        assert torch.equal(to_pixels(image, size, upright=False), to_pixels(Image.fromarray(pixels), size))


def test_a_damaged_orientation_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    image = small_picture()
    for block in (b"Exif\0\0nothing", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        image.info["exif"] = block
        assert opening.upright(image) is image


def test_large_pictures_are_read_in_several_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (211, 150, 4), dtype=np.uint8))
    modes = ("RGB", "RGBA", "L", "P", "1", "CMYK", "LA", "I", "F")
    images = [image.convert("RGB").convert(mode) if mode != "RGBA" else image for mode in modes]
    whole = [(to_pixels(one), to_pixels(one, 32)) for one in images]
    monkeypatch.setattr("sd_imagereward.core.pictures.bands.BAND_PIXELS", 1000)
    for one, (full, small) in zip(images, whole, strict=True):
        assert torch.equal(to_pixels(one), full)
        assert torch.equal(to_pixels(one, 32), small)


# -- formats -----------------------------------------------------------------------------------------------------------


def test_folders_list_by_the_table(tmp_path: Path) -> None:
    listed = [f"a{ending}" for ending in table.LISTED_ENDINGS] + ["B.JFIF", "C.Heic"]
    for name in [*listed, "a.txt", "a.json", "a.ppm", "a.svg"]:
        (tmp_path / name).touch()
    assert {entry.path.name for entry in scan(tmp_path)} == set(listed)
    assert {".jfif", ".jpe", ".jpg", ".heic", ".jp2", ".tiff", ".gif", ".bmp"} <= table.LISTED_ENDINGS
    assert {".png", ".jpg", ".jfif", ".webp", ".avif"} <= table.LABELLED_ENDINGS


def test_no_ending_stands_in_two_rows() -> None:
    endings = [ending for row in table.FORMATS for ending in row.endings]
    assert len(endings) == len(set(endings))
    assert all(ending == ending.lower() and ending.startswith(".") for ending in endings)


@pytest.mark.parametrize(
    ("data", "package"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(50), "pillow-heif"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "pillow-jxl-plugin"),
    ],
)
def test_a_format_without_its_package_is_named_with_what_to_install(
    data: bytes, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(Image, "OPEN", {kind: row for kind, row in Image.OPEN.items() if kind not in ("HEIF", "JXL")})
    with pytest.raises(ImageUnavailable, match=f"pip install {package}"):
        open_picture("a.heic", data)


def test_a_plugin_that_is_installed_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        @staticmethod
        def register_heif_opener() -> None:
            Image.OPEN["HEIF"] = (lambda file, name: Image.new("RGB", (7, 5)), None)

    Image.init()
    monkeypatch.setattr(Image, "OPEN", {kind: row for kind, row in Image.OPEN.items() if kind != "HEIF"})
    monkeypatch.setitem(sys.modules, "pillow_heif", Plugin)
    assert open_picture("a.heic", b"\0\0\0\x18ftypheic" + bytes(50)).image.size == (7, 5)


def test_a_format_is_told_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    small_picture().save(tmp_path / "a.png", format="JPEG")
    assert open_header(tmp_path / "a.png").format == "JPEG"
    with pytest.raises(BadImage, match="in no format that is known here"):
        open_picture("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")  # Pillow would run Ghostscript
    with pytest.raises(BadImage, match="the file is empty"):
        open_picture("a.png", b"")


def test_a_turned_picture_keeps_its_texts(tmp_path: Path) -> None:
    small_picture().save(tmp_path / "a.jpg", exif=exif(6))
    image = open_image(tmp_path / "a.jpg")
    assert image.size == (30, 40)
    assert read_parameters(image) == read_parameters(tmp_path / "a.jpg") == PARAMETERS
    save_image(image, tmp_path / "b.jpg")
    assert open_image(tmp_path / "b.jpg").size == (30, 40)
    assert read_parameters(tmp_path / "b.jpg") == PARAMETERS
