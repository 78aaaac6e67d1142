"""Prompts and pictures that the goldens were made of, built from code so that a test needs no file but the golden.

Pictures are integer arithmetic on numpy's raw PCG64 stream: the same bytes on every version. Each mode's bytes are set
directly, never converted from another mode, since Pillow's conversions may change.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

_SENTENCE = "a painting of an ocean with clouds and birds, day time, low depth field effect"

PROMPTS: dict[str, str] = {
    "empty": "",
    "blank": " \t  ",
    "letter": "a",
    "sentence": _SENTENCE,
    "upper case": _SENTENCE.upper(),
    "33 tokens fit": " ".join(["cat"] * 33),
    "34 tokens are cut": " ".join(["cat"] * 34),
    "over 35 tokens": f"{_SENTENCE}, {_SENTENCE}, a red castle on the mountain under a blue sunset",
    "many subwords": "unbelievably overlyrealisticness " * 8,
    "a word of 100 letters": "a" * 100,
    "a word of 101 letters": "a" * 101,
    "greek, final sigma": "ΟΔΥΣΣΕΥΣ και ΘΑΛΑΣΣΑ, Σ ΑΣ",
    "turkish dotted I": "İSTANBUL ışıkları, İ",
    "german": "GROẞE STRAßE über Köln",
    "accents, composed": "café naïve Zürich ångström",
    "accents, combining": "cafe\u0301 nai\u0308ve Zu\u0308rich a\u030angstro\u0308m",
    "stacked marks": "z\u0351\u036b\u0343\u036a\u0302a\u0334l\u0336g\u0489o",
    "lone combining mark": "\u0301 a \u0301b",
    "chinese": "天空下的海鸟 a 海",
    "chinese, extension B": "\U00020000\U0002a6df cat",
    "japanese": "鳥の絵、海。がぎぐ",
    "korean": "한국 고양이",
    "arabic": "قطة زرقاء",
    "hindi": "नीली बिल्ली",
    "thai": "แมวสีฟ้า",
    "emoji": "cat 🐱 dog👩‍👩‍👧 ❤️ 🏳️‍🌈",
    "full width": "ＦＵＬＬ　ｗｉｄｔｈ ｃａｔ",
    "ligatures": "ﬁnal ﬂow ĳ ǆ Ǆ",
    "control characters": "cat\x00dog\x01\x02 \x7fred\x80blue",
    "line breaks": "cat\r\ndog\nred\x0bblue\x0ccastle\x85mountain\u2028river\u2029sky",
    "spaces": "cat\u00a0dog\u2003red\u202fblue\u3000castle\u200bmountain\u2060river\ufeffsky",
    "soft hyphen, joiners": "moun\u00adtain ri\u200cver ca\u200dstle",
    "replacement character": "cat \ufffd dog\ufffd",
    "private use": "cat \ue000 \U000f0000 dog",
    "unassigned": "cat \u0378 \U000e0080dog",
    "direction marks": "\u202ecat\u202c \u200fdog",
    "punctuation": "don't (cat:1.2), [dog|bird]; $5 @home #art ~ ^ ` <x> _y_ a/b\\c",
    "unicode punctuation": "“cat” – dog… ‘bird’ «sea» ¿sky? 、。・",
    "symbols": "5 × 3 ÷ 2 ± ½ ² € £ ™ © ° µ Ω K Å",
    "[SEP]": "cat [SEP] dog",
    "[CLS]": "[CLS] cat",
    "[MASK]": "a [MASK] on the mountain",
    "[PAD]": "cat [PAD] dog [PAD][PAD]",
    "[UNK]": "cat [UNK] dog",
    "[DEC]": "[DEC]a cat",
    "[ENC]": "cat[ENC]dog",
    "special tokens in lower case": "[sep] [mask] [dec] [Enc]",
    "special tokens glued": "x[MASK][SEP]y[DEC][ENC]z",
    "special tokens, spaces": "cat  [SEP]   dog \n [ENC] \t red",
    "broken special token": "[SEP cat MASK] [[SEP]] [ SEP ] [unused0]",
    "upper case beside a special token": "ΑΣ[SEP]ΑΣ İ[ENC]İ",
    "unpaired surrogate": "cat \ud83d dog\udc31",
}

Picture = Callable[[], Image.Image]


def noise(name: str, height: int, width: int, channels: int) -> np.ndarray:
    """Triangle waves of random slopes with some noise on them: (H, W, channels) uint8, named by its seed."""
    stream = np.random.PCG64(np.random.SeedSequence([2023, zlib.crc32(name.encode())]))
    y, x = np.ogrid[:height, :width]
    bands = []
    for _ in range(channels):
        a, b, c, d = (int(v) for v in stream.random_raw(4) % np.uint64(1009))
        wave = ((a * x * 512) // (64 * max(width, 64)) + (b * y * 512) // (64 * max(height, 64)) + c) % 512
        speckle = (stream.random_raw(height * width) >> np.uint64(58)).astype(np.int64).reshape(height, width)
        bands.append(np.clip(np.minimum(wave, 511 - wave) + speckle - d % 64, 0, 255))
    return np.stack(bands, axis=-1).astype(np.uint8)


def _bytes(mode: str, name: str, height: int, width: int) -> Image.Image:
    """A picture of any mode of 8-bit bands."""
    pixels = noise(name, height, width, len(Image.new(mode, (1, 1)).getbands()))
    if mode in ("RGBa", "La"):  # premultiplied: no colour above its alpha
        pixels[..., :-1] = np.minimum(pixels[..., :-1], pixels[..., -1:])
    return Image.merge(mode, [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, -1, 0)])


def _rgbx(name: str, height: int, width: int) -> Image.Image:
    return Image.frombytes("RGBX", (width, height), noise(name, height, width, 4).tobytes())


def _bilevel(name: str, height: int, width: int) -> Image.Image:
    bits = np.packbits(noise(name, height, width, 1)[..., 0] > 96, axis=1)
    return Image.frombytes("1", (width, height), bits.tobytes())


def _palette(mode: str, name: str, height: int, width: int, transparency: int | bytes | None = None) -> Image.Image:
    indices = noise(name, height, width, 1)[..., 0]
    image = Image.frombytes("P", (width, height), indices.tobytes())
    colours = noise(name + " colours", 1, 256, 3)[0]
    image.putpalette(colours.tobytes())
    if mode == "PA":
        image = image.convert("PA")
        image.putalpha(Image.frombytes("L", (width, height), noise(name + " alpha", height, width, 1).tobytes()))
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def _wide(mode: str, name: str, height: int, width: int) -> Image.Image:
    """Modes of one 32-bit band, with values below 0 and, in floats, above 255."""
    values = noise(name, height, width, 1)[..., 0].astype(np.int32) * 2 - 100
    if mode == "I":
        values = np.minimum(values, 255)  # more than that is taken for 16-bit grey, see DEVIATIONS
    if mode == "F":
        return Image.fromarray(values.astype(np.float32) + np.float32(0.25))
    return Image.fromarray(values)


def _sixteen_bit(mode: str, name: str, height: int, width: int) -> Image.Image:
    """16-bit grey; older versions of Pillow read such files as mode I."""
    values = noise(name, height, width, 1)[..., 0].astype(np.uint16) * np.uint16(257)
    if mode == "I":
        return Image.fromarray(values.astype(np.int32))
    return Image.frombytes("I;16", (width, height), values.astype("<u2").tobytes())


def _transparent_rgb(name: str, height: int, width: int) -> Image.Image:
    image = _bytes("RGB", name, height, width)
    image.info["transparency"] = (0, 0, 0)
    return image


def _pictures() -> dict[str, Picture]:
    rgb = partial(_bytes, "RGB")
    made: dict[str, Callable[[str, int, int], Image.Image]] = {
        mode: partial(_bytes, mode) for mode in ("L", "LA", "La", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
    }
    made |= {mode: partial(_wide, mode) for mode in ("I", "F")}
    made |= {
        "RGBX": _rgbx,
        "1": _bilevel,
        "P": partial(_palette, "P"),
        "P, one transparent colour": partial(_palette, "P", transparency=7),
        "P, alpha of each colour": partial(_palette, "P", transparency=bytes(range(255, -1, -1))),
        "PA": partial(_palette, "PA"),
        "RGB, one transparent colour": _transparent_rgb,
        "I;16": partial(_sixteen_bit, "I;16"),
        "I, 16 bits": partial(_sixteen_bit, "I"),
    }
    pictures: dict[str, Picture] = {}
    for mode, make in made.items():
        pictures[mode] = partial(make, mode, 270, 331)
        pictures[f"{mode}, enlarged"] = partial(make, mode, 97, 61)
        if mode in ("RGBA", "LA", "P", "1", "CMYK", "I", "F"):
            pictures[f"{mode}, 224 x 224"] = partial(make, mode, 224, 224)
    # height x width
    for height, width in (
        (1, 1), (1, 300), (300, 1), (2, 257), (40, 3000), (3000, 300), (3, 5), (7, 7), (223, 225), (225, 223), (224, 224),
        (224, 225), (225, 224), (224, 511), (448, 448), (449, 1023), (512, 512), (768, 512), (1024, 1024), (333, 1999),
    ):  # fmt: skip
        name = f"{height} x {width}"
        pictures[name] = partial(rgb, name, height, width)
    for mode in ("RGBA", "P", "1", "L"):
        pictures[f"{mode}, 1 x 300"] = partial(made[mode], mode, 1, 300)
        pictures[f"{mode}, 300 x 1"] = partial(made[mode], mode, 300, 1)
    pictures["black"] = lambda: Image.new("RGB", (300, 256), (0, 0, 0))
    pictures["white"] = lambda: Image.new("RGB", (300, 256), (255, 255, 255))
    pictures["checkerboard"] = lambda: Image.fromarray(np.indices((256, 301)).sum(0).astype(np.uint8) % 2 * 255)
    return pictures


#: Name -> a function that builds the picture. The name of a size is height x width.
PICTURES: dict[str, Picture] = _pictures()

#: Not repeated on purpose: the reference turns 16-bit grey above 255 to white, and Pillow a resized PA to black.
DEVIATIONS = ("I;16", "I;16, enlarged", "I, 16 bits", "I, 16 bits, enlarged", "PA", "PA, enlarged")

#: One picture or prompt that stands for all where the other side varies.
PICTURE, PROMPT = "512 x 512", "sentence"
SECOND_PICTURE = "RGBA"


# -- thousands of texts, kept as one digest -------------------------------------------------------------------------------


DATA = Path(__file__).resolve().parent / "data"
VOCABULARY = DATA / "bert-base-uncased-vocab.txt"
SAMPLES = [DATA / "pictures" / f"{number}.webp" for number in (1, 2, 3, 4)]


def written_prompts() -> list[str]:
    """500 prompts that people wrote."""
    return list(json.loads((DATA / "written-prompts.json").read_text(encoding="utf-8")))


def ten_thousand_prompts(data: Path) -> list[str]:
    """Every prompt of the shared test data: ReFL's 10,000, the 466 of the rankings, the 100 of the benchmark."""
    texts = [row["text"] for row in json.loads((data / "refl_data.json").read_text(encoding="utf-8"))]
    for file in ("imagereward-test-rankings.json", "benchmark-prompts.json"):
        texts += [row["prompt"] for row in json.loads((data / file).read_text(encoding="utf-8"))]
    return texts


def digest_ids(ids: Callable[[str], list[int]], texts: Iterable[str]) -> str:
    """One sha256 over the ids of many texts, so that thousands of cases need a line."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(np.asarray([*ids(text), -1], dtype="<i4").tobytes())
    return digest.hexdigest()


def code_points(step: int = 0x1000, stop: int = 0x20000) -> Iterator[tuple[str, list[str]]]:
    """Every code point of the first two planes alone between letters, in blocks of `step`."""
    for block in range(0, stop, step):
        yield f"U+{block:04X}", [f"a{chr(c)}b {chr(c)} C" for c in range(block, block + step)]


def sha256(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
