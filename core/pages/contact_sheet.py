"""One HTML page that shows scored pictures side by side: thumbnails embedded, no script, nothing fetched."""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from PIL import Image, features

from ..errors import BadImage
from ..files.atomic import replacing
from ..pictures.opening import open_picture, upright
from ..pictures.pixels import to_pixels

THUMBNAIL = 384  # longer side of the embedded pictures, in pixels
QUALITY = 80


@dataclass(frozen=True)
class SheetRow:
    """One picture of the sheet. The order of the rows is their rank."""

    image: str | os.PathLike[str] | Image.Image
    score: float  # NaN: could not be scored
    percentile: float | None = None  # 0..100
    prompt: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)  # what the score is made of, by title
    name: str = ""  # the caption; "" takes the file's name


def write_contact_sheet(
    rows: Iterable[SheetRow],
    path: str | os.PathLike[str],
    *,
    title: str,
    note: str = "",
    thumbnail: int = THUMBNAIL,
) -> int:
    """Write the page and return the number of pictures on it.

    Rows are read one by one and written at once, so memory does not grow with their number; the page appears at `path`
    when it is whole, and an older one stays until then. A picture that cannot be read gets a card that says why.
    note: a line under the title. thumbnail: longer side in pixels (a picture takes about 20 KB at 384).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with replacing(path) as file:
        page = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="\n")
        page.write(page_head(title, note) + '<ol class="sheet">\n')
        for count, row in enumerate(rows, start=1):
            _write_card(page, count, row, path.parent, thumbnail)
        page.write(_foot(count))
        page.detach()  # flushed, and left open for `replacing`
    return count


def _write_card(page: TextIO, rank: int, row: SheetRow, folder: Path, thumbnail: int) -> None:
    name = row.name or ("" if isinstance(row.image, Image.Image) else Path(row.image).name)
    page.write(f'<li class="card">{_picture(row, name, folder, thumbnail)}<div class="text">')
    page.write(f'<p class="line"><span class="rank">{rank}</span>{_score(row.score)}{_percentile(row.percentile)}</p>')
    if row.percentile is not None and math.isfinite(row.percentile):
        page.write(f'<div class="bar"><i style="width:{min(max(row.percentile, 0.0), 100.0):.1f}%"></i></div>')
    if name:
        page.write(f'<p class="name" title="{_escape(name)}">{_escape(name)}</p>')
    if row.prompt:
        page.write(f'<p class="prompt" title="{_escape(row.prompt)}">{_escape(row.prompt)}</p>')
    if row.parts:
        lines = "".join(f"<tr><th>{_escape(key)}<td>{_number(value)}" for key, value in row.parts.items())
        page.write(f"<details><summary>Parts</summary><table>{lines}</table></details>")
    page.write("</div></li>\n")


def _picture(row: SheetRow, name: str, folder: Path, thumbnail: int) -> str:
    try:
        source, width, height = thumbnail_uri(row.image, thumbnail)
    except BadImage as error:
        return f'<div class="frame missing"><p>{_escape(str(error))}</p></div>'
    tag = (
        f'<img loading="lazy" decoding="async" src="{source}" width="{width}" height="{height}" alt="{_escape(name)}">'
    )
    if isinstance(row.image, Image.Image):
        return f'<div class="frame">{tag}</div>'
    return f'<a class="frame" href="{_escape(_link(Path(row.image), folder))}">{tag}</a>'


def thumbnail_uri(image: str | os.PathLike[str] | Image.Image, side: int) -> tuple[str, int, int]:
    """(data URI, width, height), turned as its EXIF orientation says. Raises BadImage."""
    picture = upright(image if isinstance(image, Image.Image) else _open_small(image, side))
    if picture.mode.startswith(("I", "F")):
        picture = Image.fromarray(to_pixels(picture).permute(1, 2, 0).numpy())  # CHW -> HWC
    clear = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    webp = bool(features.check("webp"))
    picture = picture.convert("RGBA" if clear and webp else "RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "WEBP" if webp else "JPEG"
    picture.save(buffer, kind, quality=QUALITY)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{encoded}", *picture.size


def _open_small(path: str | os.PathLike[str], side: int) -> Image.Image:
    """The decoded image; a JPEG at the smallest of its decoder's scales that is large enough, which is several times faster."""
    return open_picture(path, draft=(2 * side, 2 * side)).image


def _link(image: Path, folder: Path) -> str:
    """A link from the page to the file that still holds when both are moved together."""
    try:
        relative = os.path.relpath(image, folder)
    except ValueError:  # another drive on Windows
        return image.absolute().as_uri()
    return "./" + quote(os.fsencode(relative.replace(os.sep, "/")))  # a name need not be UTF-8


def _score(score: float) -> str:
    if not math.isfinite(score):
        return '<b class="score none">not scored</b>'
    return f'<b class="score">{_number(score)}</b>'


def _percentile(percentile: float | None) -> str:
    if percentile is None or not math.isfinite(percentile):
        return ""
    return f'<span class="percentile" title="scores higher than this share of typical images">{percentile:.1f} %</span>'


def _number(value: float) -> str:
    return f"{value:.4f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "–"


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def page_head(title: str, note: str, style: str = "", policy: str = "img-src data:") -> str:
    """The HTML of a page that loads nothing, down to its heading. policy: what it may do beside its own style."""
    subtitle = f'<p class="note">{_escape(note)}</p>' if note else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; {policy}">
<title>{_escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<header><h1>{_escape(title)}</h1>{subtitle}</header>
"""


def _foot(count: int) -> str:
    pictures = "1 picture" if count == 1 else f"{count:,} pictures"
    legend = "" if count == 0 else ", best first; % is the share of typical images that score lower"
    return f"</ol>\n<footer>{pictures}{legend}.</footer>\n</body>\n</html>\n"


STYLE = """
:root { --paper: #f4f3f0; --card: #fff; --ink: #1d1c1a; --soft: #6d6a64; --line: #e3e0da; --accent: #2f6f4f; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #141416; --card: #1e1e21; --ink: #ececea; --soft: #9a9892; --line: #313136; --accent: #6cc495; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem clamp(1rem, 3vw, 3rem) 3rem; max-width: 120rem; background: var(--paper);
  color: var(--ink); font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; font-weight: 650; letter-spacing: -.01em; }
p { margin: 0; }
.note, footer { color: var(--soft); }
header { margin-bottom: 1.5rem; }
footer { margin-top: 2rem; font-size: .9rem; }
.sheet { list-style: none; margin: 0; padding: 0; display: grid; gap: 1.1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; min-width: 0;
  content-visibility: auto; contain-intrinsic-size: auto 22rem; }
.frame { display: grid; place-items: center; aspect-ratio: 1; overflow: hidden; text-decoration: none;
  background: color-mix(in srgb, var(--line) 55%, var(--card)); }
.frame img { display: block; width: 100%; height: 100%; object-fit: contain; }
.missing p { padding: 1rem; color: var(--soft); font-size: .85rem; text-align: center; overflow-wrap: anywhere; }
.text { padding: .7rem .85rem .85rem; }
.line { display: flex; align-items: baseline; gap: .55rem; font-variant-numeric: tabular-nums; }
.rank { color: var(--soft); font-size: .85rem; }
.rank::before { content: "#"; }
.score { font-size: 1.2rem; font-weight: 650; }
.none { color: var(--soft); font-weight: 500; font-size: 1rem; }
.percentile { margin-left: auto; color: var(--soft); font-size: .85rem; white-space: nowrap; }
.bar { height: 3px; margin: .35rem 0 .55rem; border-radius: 2px; background: var(--line); }
.bar i { display: block; height: 100%; border-radius: 2px; background: var(--accent); }
.name { font-size: .85rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.prompt { margin-top: .2rem; color: var(--soft); font-size: .85rem; overflow: hidden; overflow-wrap: anywhere;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; }
details { margin-top: .5rem; font-size: .85rem; }
summary { color: var(--soft); cursor: pointer; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 400; color: var(--soft); }
td { text-align: right; }
@media print { body { background: none; padding: 0; } .card { break-inside: avoid; content-visibility: visible; } }
"""
