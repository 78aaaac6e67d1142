"""`imagereward report`: one HTML page of a scored folder that needs no server and fetches nothing.

Contact sheet, histogram, groups by prompt, means by checkpoint and LoRA; a search field and a threshold that work in the
page. The cards are written one by one and the prompts averaged one by one, so memory takes 8 bytes a picture.
"""

from __future__ import annotations

import html
import io
import math
import os
from array import array
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import NormalDist
from typing import TextIO
from urllib.parse import quote

from ..errors import BadImage, ImageRewardError
from ..files.atomic import replacing
from ..pages.contact_sheet import page_head, thumbnail_uri
from .averages import Average, Averages, Best, best_of_sorted
from .ranking import Ranking
from .records import Picture, ScorerRecord, lora_names, search_text
from .report_page import REPORT_SCRIPT, REPORT_STYLE
from .store import Store

# Linked pictures lie beside the page or, when they can't, at a file: address.
POLICY = "img-src data: 'self' file:; script-src 'unsafe-inline'"

BINS = 40
MOST_ROWS = 200  # of a table
THUMBNAIL = 256  # pixels of the longer side


def write_report(store: Store, record: ScorerRecord, path: Path, *, top: int = 0, linked: bool = False) -> int:
    """Writes one HTML page of a scored folder.

    Args:
        store: see `open_to_read`.
        record: the scorer whose scores are shown.
        path: the page; its folder is made.
        top: only the best so many become cards (0: all); tables and histogram count every picture.
        linked: the cards show the files themselves instead of embedded thumbnails, for folders too large to embed (a
            thumbnail takes about 10 KB).

    Returns:
        The number of pictures on the page.

    Raises:
        ImageRewardError: the scorer has scored no picture yet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file, Ranking(store, record) as ranking:
        if not len(ranking):
            raise ImageRewardError(f"no picture was scored by {record.title} yet; run: imagereward curate DIR")
        scores = array("d", (score for (score,) in ranking.columns("score")))
        page = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="\n")
        page.write(page_head(f"{record.title} report", _summary(scores), REPORT_STYLE, POLICY))
        page.write(_histogram(scores) + _tables(ranking))
        page.write(_controls(scores[-1], scores[0]))
        shown = min(top or len(ranking), len(ranking))
        for rank, picture in enumerate(islice(ranking, shown), start=1):
            _write_card(page, rank, picture, record, path.parent, linked)
        page.write(f"</ol>\n<script>{REPORT_SCRIPT}</script>\n</body>\n</html>\n")
        page.detach()
    return shown


def _write_card(page: TextIO, rank: int, picture: Picture, record: ScorerRecord, folder: Path, linked: bool) -> None:
    assert picture.score is not None
    score = picture.score
    percentile = 100 * NormalDist(record.mean, record.std).cdf(score)
    name = picture.path.name
    words = search_text(name, picture.prompt, picture.model, picture.loras)
    page.write(
        f'<li class="card" data-score="{score:.6f}" data-words="{_escape(words)}" '
        f'data-prompt="{_escape(picture.prompt or "")}">{_frame(picture, folder, linked)}<div class="text">'
        f'<p class="line"><span class="rank">{rank}</span><b class="score">{_number(score)}</b>'
        f'<span class="percentile" title="scores higher than this share of typical images">{percentile:.1f} %</span></p>'
        f'<p class="name" title="{_escape(name)}">{_escape(name)}</p>'
    )
    if picture.prompt:
        page.write(f'<p class="prompt" title="{_escape(picture.prompt)}">{_escape(picture.prompt)}</p>')
    if picture.model or picture.loras:
        page.write(f'<p class="made">{_escape(" · ".join((picture.model, *picture.loras)).strip(" ·"))}</p>')
    page.write("</div></li>\n")


def _frame(picture: Picture, folder: Path, linked: bool) -> str:
    link = _link(picture.path, folder)
    try:
        source, width, height = (
            (link, picture.width, picture.height) if linked else thumbnail_uri(picture.path, THUMBNAIL)
        )
    except BadImage as error:
        return f'<div class="frame missing"><p>{_escape(str(error))}</p></div>'
    return (
        f'<a class="frame" href="{_escape(link)}"><img loading="lazy" decoding="async" src="{_escape(source)}" '
        f'width="{width}" height="{height}" alt="{_escape(picture.path.name)}"></a>'
    )


def _link(image: Path, folder: Path) -> str:
    try:
        return "./" + quote(os.fsencode(os.path.relpath(image, os.path.realpath(folder)).replace(os.sep, "/")))
    except ValueError:  # another drive on Windows
        return image.absolute().as_uri()


def _summary(scores: Sequence[float]) -> str:
    mean, middle = sum(scores) / len(scores), scores[len(scores) // 2]
    return f"{len(scores):,} pictures, mean {_number(mean)}, median {_number(middle)}, best {_number(scores[0])}"


def _histogram(scores: Sequence[float]) -> str:
    """Bars as an inline SVG; every score counts, the ends hold the outliers."""
    if len(scores) < 2 or scores[0] == scores[-1]:
        return ""
    # A single broken picture scores -40: the axis ends where hardly anything is left.
    low, high = scores[-1 - len(scores) // 100], scores[len(scores) // 200]
    low, high = (low, high) if high > low else (scores[-1], scores[0])
    bins = [0] * BINS
    for score in scores:
        bins[min(BINS - 1, max(0, math.floor((score - low) / (high - low) * BINS)))] += 1
    tallest = max(bins)
    bars = "".join(
        f'<rect x="{i * 20 + 1}" y="{120 - 116 * n / tallest:.1f}" width="18" height="{116 * n / tallest:.1f}">'
        f"<title>{_number(low + (high - low) * i / BINS)} … {_number(low + (high - low) * (i + 1) / BINS)}: {n}</title></rect>"
        for i, n in enumerate(bins)
    )
    labels = "".join(
        f'<text x="{place * 8}" y="140" text-anchor="{anchor}">{_number(low + (high - low) * place / 100, 2)}</text>'
        for place, anchor in ((0, "start"), (25, "middle"), (50, "middle"), (75, "middle"), (100, "end"))
    )
    return (
        '<section><h2>Scores</h2><svg class="histogram" viewBox="0 0 800 146" preserveAspectRatio="xMinYMid" role="img" '
        f'aria-label="histogram of scores">{bars}{labels}</svg></section>\n'
    )


def _tables(ranking: Ranking) -> str:
    models, loras = Averages(), Averages()
    for model, names, score in ranking.columns("model, loras, score"):
        models.add([model] if model else [], score)
        loras.add(lora_names(names), score)
    prompts = (row for row in ranking.columns("prompt, score", order="prompt, rowid") if row[0])
    return (
        _table("Checkpoints", models.best(MOST_ROWS))
        + _table("LoRAs", loras.best(MOST_ROWS))
        + _table("Prompts", best_of_sorted(prompts, MOST_ROWS), folded=True)
    )


def _table(title: str, averages: Best, *, folded: bool = False) -> str:
    if not averages.rows:
        return ""
    rows = "".join(
        f'<tr><td><button type="button" data-search="{_escape(one.name)}">{_escape(one.name)}</button>'
        f"<td>{_number(one.mean)}<td>{_interval(one)}<td>{_number(one.best)}<td>{one.count:,}"
        for one in averages.rows
    )
    left_out = averages.total - len(averages.rows)
    more = f"<p class='note'>and {left_out:,} more</p>" if left_out else ""
    return (
        f"<section><details{'' if folded else ' open'}><summary><h2>{title}</h2> ({averages.total:,})</summary>"
        "<table class='averages'><thead><tr><th>name<th>mean<th title='Student t over the pictures'>95% interval"
        f"<th>best<th>pictures</thead><tbody>{rows}</tbody></table>{more}</details></section>\n"
    )


def _interval(average: Average) -> str:
    if math.isnan(average.half_width):
        return "–"
    return f"{_number(average.mean - average.half_width)} … {_number(average.mean + average.half_width)}"


def _controls(low: float, high: float) -> str:
    margin = max((high - low) / 1000, 1e-6)
    low, high = low - margin, high + margin
    return (
        '<section class="controls"><label>Search <input id="search" type="search" placeholder="name, prompt, checkpoint">'
        '</label><label>At least <input id="threshold" type="range" '
        f'min="{low:.4f}" max="{high:.4f}" step="{(high - low) / 500:.6f}" value="{low:.4f}"><output id="shown-threshold">'
        '</output></label><label><input id="grouped" type="checkbox"> by prompt</label><span id="count"></span></section>\n'
        '<ol class="sheet" id="sheet">\n'
    )


def _number(value: float, decimals: int = 4) -> str:
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "–"


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
