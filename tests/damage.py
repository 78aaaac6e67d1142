"""Small valid files of every format, and ways in which files come to harm."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable

from PIL import Image, PngImagePlugin

PARAMETERS = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 40x30"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def small_picture() -> Image.Image:
    grey = Image.radial_gradient("L").resize((40, 30))
    return Image.merge("RGB", [grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT), grey.rotate(90)])


def exif(orientation: int = 6) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F], block[0x0110] = 'workflow:{"nodes": []}', 'prompt:{"1": {"class_type": "KSampler", "inputs": {}}}'
    block[0x8769] = {0x9286: b"UNICODE\0" + PARAMETERS.encode("utf-16-be")}
    return block


def valid_files() -> dict[str, bytes]:
    """By name; formats that this Pillow cannot write are left out."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", PARAMETERS)
    texts.add_text("prompt", '{"1": {"class_type": "KSampler", "inputs": {}}}', zip=True)
    texts.add_itxt("workflow", '{"nodes": []}', "en", "workflow", zip=True)
    image, palette, alpha = small_picture(), small_picture().convert("P"), small_picture().convert("RGBA")
    block, profile, frames = (
        exif().tobytes(),
        b"no profile" * 20,
        {"save_all": True, "append_images": [image.rotate(90)]},
    )
    turned = Image.Exif()
    turned[0x0112] = 6
    made = {
        "png": (image, "PNG", {"pnginfo": texts, "exif": block, "icc_profile": profile}),
        "grey 16.png": (Image.new("I;16", (20, 20), 3000), "PNG", {}),
        "palette.png": (palette, "PNG", {"transparency": 3}),
        "alpha.png": (alpha, "PNG", {}),
        "bits.png": (image.convert("1"), "PNG", {}),
        "animated.png": (image, "PNG", frames),
        "jpg": (image, "JPEG", {"exif": block, "icc_profile": profile, "comment": b"hello"}),
        "progressive.jpg": (image, "JPEG", {"progressive": True}),
        "cmyk.jpg": (image.convert("CMYK"), "JPEG", {}),
        "mpo.jpg": (image, "MPO", frames),
        "webp": (image, "WEBP", {"exif": block}),
        "lossless.webp": (alpha, "WEBP", {"lossless": True}),
        "animated.webp": (image, "WEBP", frames),
        "avif": (image, "AVIF", {"exif": block}),
        "gif": (image, "GIF", {"comment": PARAMETERS.encode()}),
        "animated.gif": (image, "GIF", frames),
        "bmp": (image, "BMP", {}),
        "palette.bmp": (palette, "BMP", {}),
        **{
            f"{packing}.tif": (image, "TIFF", {"compression": packing, "exif": turned})
            for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        },
        "float.tif": (image.convert("F"), "TIFF", {}),
        "jp2": (image, "JPEG2000", {}),
        "ppm": (image, "PPM", {}),
        "tga": (image, "TGA", {}),
    }
    Image.init()
    files = {}
    for name, (picture, kind, options) in made.items():
        if kind in Image.SAVE:
            out = io.BytesIO()
            picture.save(out, kind, **options)
            files[name] = out.getvalue()
    return files


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A file as a bad disk, a broken download or a hostile hand leaves it."""
    harm = chance.choice(_HARMS)(bytearray(data), chance)
    # A wrong checksum ends most readings of a PNG at once; a right one lets the damage in.
    return _with_checksums(harm) if harm.startswith(_SIGNATURE) and chance.random() < 0.7 else bytes(harm)


def _flip_bytes(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return data


def _flip_a_bit_in_front(data: bytearray, chance: random.Random) -> bytearray:
    data[chance.randrange(min(len(data), 120))] ^= 1 << chance.randrange(8)
    return data


def _cut(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(len(data))]


def _leave_out(data: bytearray, chance: random.Random) -> bytearray:
    first, last = sorted(chance.randrange(len(data)) for _ in range(2))
    return data[:first] + data[last:]


def _swap(data: bytearray, chance: random.Random) -> bytearray:
    first, middle, last = sorted(chance.randrange(len(data)) for _ in range(3))
    return data[:first] + data[middle:last] + data[first:middle] + data[last:]


def _lie(data: bytearray, chance: random.Random) -> bytearray:
    """Sizes, counts and offsets that lead nowhere, or back."""
    at = chance.randrange(max(1, len(data) - 4))
    data[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\x08\0\0\0"])
    return data


_HARMS: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    *(_flip_bytes, _flip_a_bit_in_front, _cut),
    *(_leave_out, _swap, _lie),
)


def _with_checksums(data: bytearray) -> bytes:
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        struct.pack_into(">L", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)
