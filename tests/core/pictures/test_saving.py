"""Any text survives any format, is where A1111 and ComfyUI look, and no error leaves half a file."""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from sd_imagereward.core.errors import BadImage, ImageRewardError, ImageUnavailable
from sd_imagereward.core.pictures.formats.exif import (
    decode_comment,
    encode_comment,
    load_exif,
    read_chunks,
    read_comment,
)
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.pictures.texts import read_parameters

Image.init()
ENDINGS = [e for e, f in {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "avif": "AVIF"}.items() if f in Image.SAVE]
TEXT = 'a cat: "sitting", ünï 😀\nNegative prompt: dog\nSteps: 20, Seed: 1, Size: 8x8, ImageReward: 0.5812'
WORKFLOW = {"nodes": [{"title": "Größe 😀", "value": "a: b\n"}]}

# EXIF with the UserComment "é 😀\nSteps: 1", made by piexif 1.1.3: piexif.dump({"Exif": {UserComment:
# piexif.helper.UserComment.dump(text, encoding="unicode")}}), which is what A1111 puts into JPEG, WebP and AVIF.
PIEXIF = bytes.fromhex(
    "4578696600004d4d002a00000008000187690004000000010000001a000000000001928600070000002200000028"
    "554e49434f44450000e90020d83dde00000a00530074006500700073003a00200031"
)

# Zero characters and lone surrogates can be held by no format: they are left out.
any_text = st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)


def picture(mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((16, 16)).convert(mode)


@pytest.mark.parametrize("ending", [*ENDINGS, "gif"])
def test_the_text_comes_back(tmp_path, ending):
    path = tmp_path / f"image.{ending}"
    save_image(picture(), path, parameters=TEXT)
    assert read_parameters(path) == TEXT
    assert read_parameters(str(path)) == TEXT
    with Image.open(path) as opened:
        assert read_parameters(opened) == TEXT
        assert opened.size == (16, 16)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ["jpg", "gif"])
def test_another_programs_remark_is_no_prompt(tmp_path, ending):
    path = tmp_path / f"image.{ending}"
    for remark, expected in (
        (b"Created with GIMP", None),
        (b"CREATOR: gd-jpeg v1.0, quality = 90", None),
        (TEXT, TEXT),
    ):
        picture().save(path, comment=remark)
        assert read_parameters(path) == expected


@pytest.mark.parametrize("ending", ENDINGS)
@given(text=any_text)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_any_text_comes_back(tmp_path, ending, text):
    path = tmp_path / f"image.{ending}"
    save_image(Image.new("RGB", (2, 2)), path, parameters=text)
    assert read_parameters(path) == text


def test_what_no_format_can_hold_does_not_cost_the_image(tmp_path):
    for ending in ENDINGS:
        path = tmp_path / f"image.{ending}"
        save_image(picture(), path, parameters="a\0b\ud800c", chunks={"naïve 😀": "x", "k" * 90: "y"})
        assert read_parameters(path) == "ab?c"


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_text_means_none(tmp_path, ending):
    save_image(picture(), tmp_path / f"image.{ending}")
    assert read_parameters(tmp_path / f"image.{ending}") is None


def test_png_chunks_are_as_comfyui_and_a1111_write_them(tmp_path):
    path = tmp_path / "image.png"
    save_image(picture(), path, parameters=TEXT, chunks={"prompt": '{"1": {}}', "workflow": WORKFLOW})
    with Image.open(path) as opened:
        assert opened.info["parameters"] == TEXT
        assert json.loads(opened.info["workflow"]) == WORKFLOW
        assert opened.info["prompt"] == '{"1": {}}'


@pytest.mark.parametrize("ending", [e for e in ENDINGS if e != "png"])
def test_exif_is_as_comfyui_and_a1111_write_it(tmp_path, ending):
    path = tmp_path / f"image.{ending}"
    many = {"a": "1", "workflow": WORKFLOW, "b": "2", "c": "3", "prompt": {"é": 1}}
    save_image(picture(), path, parameters=TEXT, chunks=many)
    with Image.open(path) as opened:
        data = opened.info["exif"]
    assert b"\x92\x86\x00\x07" in data  # UserComment, type UNDEFINED: piexif reads no other
    assert b"UNICODE\0" + TEXT.encode("utf-16-be") in data
    exif = load_exif(data)
    assert exif[0x0110] == 'prompt:{"\\u00e9": 1}'
    assert json.loads(exif[0x010F].removeprefix("workflow:")) == WORKFLOW
    assert list(read_chunks(exif)) == ["prompt", "workflow", "a", "b"]


def test_texts_that_came_with_the_image_are_kept(tmp_path):
    path = tmp_path / "image.png"
    save_image(picture(), path, parameters=TEXT, chunks={"workflow": WORKFLOW, "prompt": {}})
    for ending in ENDINGS:
        other, third = tmp_path / f"other.{ending}", tmp_path / "third.png"
        with Image.open(path) as opened:
            save_image(opened, other, parameters="new")
        with Image.open(other) as opened:
            save_image(opened, third)
        assert read_parameters(other) == read_parameters(third) == "new"
        with Image.open(third) as opened:
            assert json.loads(opened.info["workflow"]) == WORKFLOW
            assert json.loads(opened.info["prompt"]) == {}
    with Image.open(path) as opened:
        save_image(opened, path, parameters="", chunks={})
    with Image.open(path) as opened:
        assert read_parameters(opened) is None
        assert "workflow" not in opened.info


def test_other_exif_is_kept(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "me"
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", exif=exif.tobytes())
    for ending in ENDINGS:
        save_image(Image.open(buffer), tmp_path / f"image.{ending}", parameters=TEXT)
        with Image.open(tmp_path / f"image.{ending}") as opened:
            assert (opened.getexif()[0x0112], opened.getexif()[0x013B]) == (6, "me")
            assert read_parameters(opened) == TEXT


def test_a_comment_written_by_piexif_is_read():
    assert read_comment(load_exif(PIEXIF)) == "é 😀\nSteps: 1"


def test_encodings_of_comments():
    assert decode_comment(b"ASCII\0\0\0Steps: 1\0") == "Steps: 1"
    assert decode_comment(b"\0" * 8 + "é".encode()) == "é"
    assert decode_comment("plain é".encode()) == "plain é"
    assert decode_comment(b"JIS\0\0\0\0\0" + "猫".encode("shift_jis")) == "猫"
    assert decode_comment(b"JIS\0\0\0\0\0" + "猫".encode("iso2022_jp")) == "猫"
    assert decode_comment(b"UNICODE\0" + TEXT.encode("utf-16")) == TEXT
    assert decode_comment(b"UNICODE\0" + TEXT.encode("utf-16-le")) == TEXT
    assert decode_comment(b"UNICODE\0" + b"\xfe\xff" + TEXT.encode("utf-16-be")) == TEXT


@given(any_text)
@example("★★★")
@example("①②③④⑤⑥⑦⑧")
@example("䨻")
@example("0\U000b3656")
def test_any_comment_comes_back(text):
    """The settings behind it tell its encoding; a few strange characters alone may be read in several ways."""
    text += "\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5"
    assert decode_comment(encode_comment(text)) == text


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the damage
@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda junk: PIEXIF[:40] + junk))
def test_damaged_exif_is_no_text_and_no_error(data):
    assert isinstance(read_comment(load_exif(data)), str)
    assert isinstance(read_chunks(load_exif(data)), dict)


def png_with(kind: bytes, body: bytes, *, after_pixels: bool) -> bytes:
    """A PNG file with one more chunk, before or behind the pixels."""
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    plain = buffer.getvalue()
    chunk = struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))
    at = plain.index(b"IEND") - 4 if after_pixels else plain.index(b"IDAT") - 4
    return plain[:at] + chunk + plain[at:]


@pytest.mark.parametrize("after_pixels", [False, True])
@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (b"tEXt", b"parameters\0caf\xe9", "café"),
        (b"zTXt", b"parameters\0\0" + zlib.compress(b"caf\xe9"), "café"),
        (b"iTXt", b"parameters\0\0\0\0\0" + "猫".encode(), "猫"),
        (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress("猫".encode()), "猫"),
        (b"tEXt", b"prompt\0{}", None),
    ],
)
def test_every_kind_of_png_text_is_read(tmp_path, kind, body, text, after_pixels):
    path = tmp_path / "image.png"
    path.write_bytes(png_with(kind, body, after_pixels=after_pixels))
    assert read_parameters(path) == text


def test_long_texts_in_jpeg_lose_chunks_then_prompt_and_never_the_line(tmp_path, caplog):
    path = tmp_path / "image.jpg"
    save_image(picture(), path, parameters=TEXT, chunks={"workflow": "x" * 70_000})
    assert read_parameters(path) == TEXT
    assert "workflow" in caplog.text
    save_image(picture(), path, parameters="😀" * 40_000 + TEXT)
    cut = read_parameters(path)
    assert cut.startswith("😀" * 10_000)
    assert cut.endswith("…\nSteps: 20, Seed: 1, Size: 8x8, ImageReward: 0.5812")
    save_image(picture(), tmp_path / "image.webp", parameters="😀" * 40_000 + TEXT)
    assert read_parameters(tmp_path / "image.webp") == "😀" * 40_000 + TEXT


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
@pytest.mark.parametrize("ending", [*ENDINGS, "gif"])
def test_every_mode_can_be_saved(tmp_path, mode, ending):
    image = Image.new("I;16", (16, 16), 40_000) if mode == "I;16" else picture(mode)
    save_image(image, tmp_path / f"image.{ending}", parameters=TEXT)
    with Image.open(tmp_path / f"image.{ending}") as opened:
        opened.load()
        if mode == "I;16" and ending in ("jpg", "webp"):
            assert opened.convert("L").getpixel((5, 5)) == pytest.approx(40_000 / 257, abs=2)


def test_png_pixels_and_transparency_are_exact(tmp_path):
    image = picture("RGBA")
    image.putalpha(Image.radial_gradient("L").resize((16, 16)))
    save_image(image, tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as opened:
        assert opened.tobytes() == image.tobytes()


@pytest.mark.parametrize("existed", [True, False])
def test_an_error_leaves_the_old_file_or_none(tmp_path, monkeypatch, existed):
    def save_on_a_full_disk(image, file, *args, **kwargs):
        file.write(b"half")
        raise OSError("No space left on device")

    path = tmp_path / "image.png"
    if existed:
        path.write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", save_on_a_full_disk)
    with pytest.raises(OSError, match="no room"):
        save_image(picture(), path, parameters=TEXT)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([b"old"] if existed else [])


@pytest.mark.skipif(os.name == "nt", reason="permissions and links of POSIX")
def test_permissions_and_links_stay(tmp_path):
    target, link = tmp_path / "image.png", tmp_path / "link.png"
    save_image(picture(), target)
    target.chmod(0o640)
    link.symlink_to(target)
    save_image(picture(), link, parameters=TEXT)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert read_parameters(target) == TEXT


def test_errors_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ImageRewardError, match=r"\.png, \.apng, \.jpg"):
        save_image(picture(), tmp_path / "image.txt")
    with pytest.raises(BadImage, match="got list"):
        save_image([1], tmp_path / "image.png")
    monkeypatch.delitem(Image.SAVE, "AVIF", raising=False)
    with pytest.raises(ImageRewardError, match=r"cannot write AVIF.*pip install"):
        save_image(picture(), tmp_path / "image.avif")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_image_is_said(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"image\.png"):
        read_parameters(path)
    with pytest.raises(ImageUnavailable, match=r"no such image: missing\.png"):
        read_parameters(Path("missing.png"))


def test_a_truncated_file_still_gives_its_text(tmp_path):
    path = tmp_path / "image.png"
    save_image(Image.effect_noise((64, 64), 50), path, parameters=TEXT)
    path.write_bytes(path.read_bytes()[:-1000])
    assert read_parameters(path) == TEXT
    save_image(Image.effect_noise((64, 64), 50), path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert read_parameters(path) is None


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_copy_of_an_opened_image_keeps_its_texts(tmp_path, mode):
    path = tmp_path / "image.png"
    save_image(picture(), path, parameters=TEXT, chunks={"workflow": WORKFLOW})
    with Image.open(path) as opened:
        copy = opened.convert(mode)
    save_image(copy, path)
    with Image.open(path) as opened:
        assert json.loads(opened.info["workflow"]) == WORKFLOW
        assert read_parameters(opened) == TEXT
