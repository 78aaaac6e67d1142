"""The page of the miniature: claims with their intervals, curves, and what was drawn before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...core.files.atomic import replace_text
from ...core.pages.cards import Frame, frame
from ...core.pages.charts import Series, bar_chart
from ...core.pages.drawing import Drawing
from ...core.pages.kit import write_page
from .claims import Claim, agreements, true_values
from .drawing import IDS
from .stages import ARTISTS, Workshop, seconds

HERE = Path(__file__).parent
SHOWN = 24  # captions of a strip
Table = tuple[list[str], list[list[str]]]


def write(
    path: Path, shops: Sequence[Workshop], claims: Sequence[Sequence[Claim]], more: Sequence[tuple[str, Table]]
) -> Path:
    """`path` and beside it the tables as Markdown. claims: those of each shop; more: other tables."""
    claimed, times = _claim_table(shops, claims), _time_table(shops)
    replace_text(
        path.with_suffix(".md"), "\n\n".join(map(_markdown, (claimed, *(table for _, table in more), times))) + "\n"
    )
    return write_page(
        path,
        "page.html",
        folder=HERE,
        title="The paper in miniature",
        note="Everything here was learned from nothing on a CPU. Test captions and noises were never trained on; "
        "intervals are 95%, from a bootstrap over captions. The truth is read off the pixels.",
        claims=claimed,
        charts=list(_charts(shops)),
        strips=list(_strips(shops[0])),
        more=more,
        times=times,
    )


def _claim_table(shops: Sequence[Workshop], claims: Sequence[Sequence[Claim]]) -> Table:
    header = ["", "Claim", *(f"seed {shop.seed}" for shop in shops), "Holds"]
    rows = []
    for same in zip(*claims, strict=True):
        found = [f"{'✓' if claim.holds else '✗'} {claim.in_words()}" for claim in same]
        rows.append([same[0].letter, same[0].asked, *found, f"{sum(c.holds for c in same)} of {len(same)}"])
    return header, rows


def _time_table(shops: Sequence[Workshop]) -> Table:
    times = [seconds(shop) for shop in shops]
    rows = [[stage, *(f"{each.get(stage, 0):.0f}" for each in times)] for stage in times[0]]
    rows.append(["all", *(f"{sum(each.values()):.0f}" for each in times)])
    return ["stage", *(f"seed {shop.seed}" for shop in shops)], rows


def _markdown(table: Table) -> str:
    header, rows = table
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def _charts(shops: Sequence[Workshop]) -> Iterator[Drawing]:
    for shop in shops:
        found = agreements(shop)
        accuracy = [estimate.value for estimate in found.values()]
        intervals = [(estimate.low, estimate.high) for estimate in found.values()]
        title = f"Agreement with the truth, seed {shop.seed}"
        yield bar_chart(
            title, list(found), [Series("pairs ordered as the truth does", accuracy, intervals)], decimals=3
        )
    means = [Series(f"seed {shop.seed}", [true_values(shop, artist).mean() for artist in ARTISTS]) for shop in shops]
    yield bar_chart("Mean truth of what was drawn", list(ARTISTS), means, decimals=2, legend=True)


def _strips(shop: Workshop) -> Iterator[tuple[str, list[tuple[Frame, str]]]]:
    captions = shop.split.test[:SHOWN]
    for artist in ARTISTS:
        paths = [(shop / "drawings" / artist / f"{IDS[text]}_0.png", text) for text in captions]
        yield f"Seed {shop.seed}, {artist}: the same captions and noises", [(frame(p, 64), text) for p, text in paths]
    best = sorted((shop / "best").glob("*.png"))
    yield "The 16 best of all that the tuned model drew, by its reward", [(frame(p, 64), p.stem) for p in best]
