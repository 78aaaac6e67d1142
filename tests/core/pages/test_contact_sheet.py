"""The contact sheet: whole or not at all, safe whatever a prompt says, and no bigger in memory than one picture."""

from __future__ import annotations

import base64
import io
import math
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from html_reader import Reader
from PIL import Image
from sd_imagereward.core.pages.contact_sheet import SheetRow, write_contact_sheet

DATA_URI = re.compile(r'src="data:image/(\w+);base64,([A-Za-z0-9+/=]+)"')
NASTY = "\"><script>alert(1)</script><img src=x onerror=alert(2)> & ' é 海"


def picture(
    colour: tuple[int, ...] = (200, 40, 90), size: tuple[int, int] = (80, 60), mode: str = "RGB"
) -> Image.Image:
    return Image.new(mode, size, colour)


def write(tmp_path: Path, *rows: SheetRow, **options: object) -> str:
    path = tmp_path / "sheet.html"
    assert write_contact_sheet(rows, path, **({"title": "Scores"} | options)) == len(rows)
    return path.read_text(encoding="utf-8")


def thumbnails(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data))) for _, data in DATA_URI.findall(page)]


def test_a_card_tells_rank_score_percentile_name_prompt_and_parts(tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    picture().save(file)
    rows = [
        SheetRow(file, 0.58124, 71.9, "a cat", {"Sharpness": 0.75}),
        SheetRow(picture(), -1.5, 6.7, name="drawn here"),
    ]
    seen = Reader(write(tmp_path, *rows, title="My scores", note="two of them")).text
    for text in ("My scores", "two of them", "0.5812", "71.9 %", "cat.png", "a cat", "Sharpness", "0.7500"):
        assert text in seen
    for text in ("−1.5000", "6.7 %", "drawn here", "2 pictures"):
        assert text in seen


def test_whatever_a_prompt_or_name_says_stays_text(tmp_path: Path) -> None:
    row = SheetRow(picture(), 0.0, 50.0, NASTY, {NASTY: 1.0}, NASTY)
    reader = Reader(write(tmp_path, row, title=NASTY, note=NASTY))
    names = [tag for tag, _ in reader.tags]
    assert "script" not in names
    assert names.count("img") == 1
    assert not any(key.startswith("on") for _, attributes in reader.tags for key in attributes)
    assert reader.text.count(NASTY) == 6  # page title, heading, note, part, name, prompt


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    reader = Reader(write(tmp_path, SheetRow(picture(), 1.0)))
    sources = [value for _, attributes in reader.tags for key, value in attributes.items() if key in ("src", "srcset")]
    assert sources
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert {tag for tag, _ in reader.tags} & {"script", "link", "iframe"} == set()
    policy = next(a["content"] for _, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    image = next(attributes for tag, attributes in reader.tags if tag == "img")
    assert image["loading"] == "lazy"


def test_thumbnails_keep_shape_colour_and_orientation(tmp_path: Path) -> None:
    lying = tmp_path / "lying.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to see it upright
    picture(size=(900, 300)).save(lying, exif=exif)
    wide, turned, small = thumbnails(
        write(
            tmp_path, SheetRow(picture(size=(1000, 500)), 1), SheetRow(lying, 1), SheetRow(picture(), 1), thumbnail=200
        )
    )
    assert (wide.size, small.size) == ((200, 100), (80, 60))
    assert turned.width * 3 == pytest.approx(turned.height, abs=3)
    assert np.abs(np.asarray(wide.convert("RGB"), dtype=int) - (200, 40, 90)).max() < 12


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_is_shown(tmp_path: Path, mode: str) -> None:
    image = picture().convert("L" if mode in ("I;16", "I", "F") else "RGB").convert(mode)
    (shown,) = thumbnails(write(tmp_path, SheetRow(image, 0.0)))
    assert shown.size == image.size


def test_links_lead_to_the_files_and_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    names = ["50% #1?.png", "javascript:alert(1).png", "ü & <b>.png"]
    for name in names:
        picture().save(folder / name)
    reader = Reader(write(tmp_path, *(SheetRow(folder / name, 0.0) for name in names)))
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert [unquote(link) for link in links if link] == [f"./a folder/{name}" for name in names]
    assert all(link and link.startswith("./") and "?" not in link and "#" not in link for link in links)


def test_a_broken_or_missing_file_gets_a_card_that_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    truncated = tmp_path / "cut.jpg"
    Image.effect_noise((300, 300), 90).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:4000])
    rows = [SheetRow(f, math.nan) for f in (broken, truncated, tmp_path / "gone.png")]
    seen = Reader(write(tmp_path, *rows, SheetRow(picture(), 0.0))).text
    assert seen.count("not scored") == 3
    assert seen.count("cannot read") == 2
    assert "no such image" in seen


def test_an_older_page_survives_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    write_contact_sheet([SheetRow(picture(), 1.0)], path, title="old")
    before = path.read_bytes()

    def interrupted() -> Iterator[SheetRow]:
        yield SheetRow(picture(), 1.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_contact_sheet(interrupted(), path, title="new")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 255, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)

    def peak(count: int) -> int:
        tracemalloc.start()
        rows = (SheetRow(image, float(i), 50.0, f"prompt {i}") for i in range(count))
        assert write_contact_sheet(rows, tmp_path / "big.html", title="big") == count
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(5)  # what is loaded once
    few, many = peak(10), peak(1500)
    assert (tmp_path / "big.html").stat().st_size > 2_000_000
    assert many < few + 300_000


def test_no_pictures_make_an_empty_page(tmp_path: Path) -> None:
    assert "0 pictures." in Reader(write(tmp_path)).text
