"""Charts: bars with intervals, lines, and a histogram."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..files.console import counted
from .drawing import Box, Dot, Drawing, Polyline, series_ink, shortened, text_width
from .kit import number

EDGE = 2  # left free at each side
ROW = 22  # a line of text
BAR, GAP = 18, 10
BINS = 40
MOST_LABEL = 0.4  # of the width
MOST_DOTS = 40  # of a line; one with more points shows no single ones

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """A name for the legend and a value for each row of the chart; NaN is no value, and no interval."""

    name: str
    values: Sequence[float]
    intervals: Sequence[tuple[float, float]] = ()


class Scale:
    """Values to pixels along one axis."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self.low, self.high = low, high
        self.start, self.stop = start, stop

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.stop) / 2
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) between `low` and `high`."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    power = 10 ** math.floor(math.log10(span / about))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= about)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def bar_chart(
    title: str,
    rows: Sequence[str],
    series: Sequence[Series],
    *,
    width: int = 616,
    decimals: int = 4,
    legend: bool = False,
) -> Drawing:
    """A horizontal bar from zero for each row and series, with its value and its interval.

    legend: a line for each series that sums it up, and a star at its best row.
    """
    top = ROW * len(series) if legend else 0
    bottom = top + max(1, len(rows)) * (BAR * len(series) + GAP)
    chart = Drawing(width, bottom + ROW, title, "; ".join(map(_summed_up, series)))
    if legend:
        for i, one in enumerate(series):
            _legend_entry(chart, EDGE, ROW * i, _summed_up(one), i)
    labels = [shortened(label, MOST_LABEL * width) for label in rows]
    scale = _bar_scale(labels, series, width, decimals)
    for tick in ticks(scale.low, scale.high):
        chart.line((scale(tick), top), (scale(tick), bottom), "grid")
        chart.text(scale(tick), bottom + ROW / 2 + 2, _short(tick), "middle")
    for r, label in enumerate(labels):
        y = top + r * (BAR * len(series) + GAP) + GAP / 2
        chart.text(scale.start - 10, y + BAR * len(series) / 2, label, "end", "ink")
        for i, one in enumerate(series):
            if r < len(one.values):
                starred = legend and r == _best(one.values)
                _bar(chart, scale, y + BAR * i, series_ink(i), one.values[r], decimals, " *" * starred)
                _whisker(chart, scale, y + BAR * (i + 0.5), one.intervals[r] if one.intervals else (math.nan, math.nan))
    chart.line((scale(0.0), top), (scale(0.0), bottom), "soft")
    return chart


def _bar_scale(labels: Sequence[str], series: Sequence[Series], width: int, decimals: int) -> Scale:
    """From the lowest value to the highest, zero always among them."""
    ends = [end for one in series for pair in one.intervals for end in pair]
    finite = [value for value in (*(v for one in series for v in one.values), *ends) if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    room = max(text_width(text) for text in (f"{low:.{decimals}f} *", f"{high:.{decimals}f} *", "no score"))
    left = EDGE + max(map(text_width, labels), default=0) + 10
    return Scale(low, high if high > low else 1.0, left, width - EDGE - room - 10)


def _bar(chart: Drawing, scale: Scale, top: float, ink: str, value: float, decimals: int, star: str) -> None:
    if math.isfinite(value):
        left, right = sorted((scale(0.0), scale(value)))
        chart.shapes.append(Box(left, top + 2, max(right - left, 1.0), BAR - 4, ink))
    text = "no score" if math.isnan(value) else (number(value, decimals) if math.isfinite(value) else str(value)) + star
    chart.text(scale.stop + 10, top + BAR / 2, text, ink="ink")


def _whisker(chart: Drawing, scale: Scale, y: float, interval: tuple[float, float]) -> None:
    if not all(map(math.isfinite, interval)):
        return
    low, high = map(scale, interval)
    chart.line((low, y), (high, y), "ink", 1.5)
    for end in (low, high):
        chart.line((end, y - 5), (end, y + 5), "ink", 1.5)


def _summed_up(series: Series) -> str:
    numbers = [value for value in series.values if math.isfinite(value)]
    if not numbers:
        return f"{series.name}: no scores"
    mean = sum(numbers) / len(numbers)
    return f"{series.name}: best {number(max(numbers))}, mean {number(mean)}, {len(numbers)} in all"


def _best(values: Sequence[float]) -> int:
    numbers = [-math.inf if math.isnan(value) else value for value in values]
    return numbers.index(max(numbers)) if numbers else -1


def line_chart(
    title: str,
    lines: Mapping[str, Points],
    *,
    across: str = "",
    width: int = 616,
    height: int = 260,
    first_ink: int = 0,
) -> Drawing:
    """Lines through (x, y) points by name; points that are not finite are left out. Several lines get a legend.

    across: what x counts. first_ink: the number of the first line's colour.
    """
    points = {name: [(x, y) for x, y in line if math.isfinite(x + y)] for name, line in lines.items()}
    xs = [x for line in points.values() for x, _ in line] or [0.0]
    ys = [y for line in points.values() for _, y in line] or [0.0]
    summary = "; ".join(f"{name}: {_course(line)}" for name, line in points.items())
    chart = Drawing(width, height, title, summary)
    top = _legend(chart, list(points), first_ink) if len(points) > 1 else 0
    levels = ticks(min(ys), max(ys), 6)
    left = EDGE + max(text_width(_short(level)) for level in levels) + 10
    along = Scale(min(xs), max(xs), left, width - 8)
    up = Scale(min(ys), max(ys), height - ROW - 10, top + 8)
    _line_axes(chart, along, up, levels, across)
    for i, line in enumerate(points.values()):
        _line(chart, [(along(x), up(y)) for x, y in line], line, series_ink(first_ink + i))
    return chart


def _line_axes(chart: Drawing, along: Scale, up: Scale, levels: Sequence[float], across: str) -> None:
    for level in levels:
        chart.line((along.start, up(level)), (along.stop, up(level)), "grid")
        chart.text(along.start - 8, up(level), _short(level), "end")
    places = ticks(along.low, along.high, 6)
    for tick in places:
        text = f"{_short(tick)} {across}".strip() if tick == places[-1] else _short(tick)
        chart.text(_inside(along(tick), text, chart.width), chart.height - ROW / 2 + 2, text, "middle")


def _line(chart: Drawing, places: Points, values: Points, ink: str) -> None:
    chart.shapes.append(Polyline(places, ink, 2.0))
    if len(values) <= MOST_DOTS:
        for (x, y), (at, value) in zip(places, values, strict=True):
            chart.shapes.append(Dot(x, y, 3.0, ink, f"{_short(at)}: {value:.4g}"))


def _course(line: Points) -> str:
    values = [y for _, y in line]
    return f"from {values[0]:.4g} to {values[-1]:.4g}, highest {max(values):.4g}" if values else "no values"


def _legend(chart: Drawing, names: Sequence[str], first_ink: int) -> int:
    """Draws the names with their colours at the top, in as many rows as they need; the height of these in pixels."""
    x, y = EDGE, 0
    for i, name in enumerate(names):
        taken = 18 + text_width(name) + 20
        if x > EDGE and x + taken > chart.width:
            x, y = EDGE, y + ROW
        _legend_entry(chart, x, y, name, first_ink + i)
        x += taken
    return y + ROW


def _legend_entry(chart: Drawing, x: float, y: float, name: str, place: int) -> None:
    chart.shapes.append(Box(x, y + 4, 12, 12, series_ink(place)))
    chart.text(x + 18, y + 10, shortened(name, chart.width - x - 18), ink="ink")


def histogram(title: str, falling: Sequence[float], *, width: int = 616, height: int = 170) -> Drawing | None:
    """How many scores lie where. falling: highest first. None if all are equal.

    Every score counts. The axis ends where hardly anything is left, as one broken picture may score -40; the outermost bars
    hold the rest.
    """
    if len(falling) < 2 or falling[0] == falling[-1]:
        return None
    low, high = falling[-1 - len(falling) // 100], falling[len(falling) // 200]
    low, high = (low, high) if high > low else (falling[-1], falling[0])
    bins = [0] * BINS
    for score in falling:
        bins[min(BINS - 1, max(0, math.floor((score - low) / (high - low) * BINS)))] += 1
    summary = f"{counted(len(falling), 'score')} from {number(falling[-1], 2)} to {number(falling[0], 2)}"
    chart = Drawing(width, height, title, summary)
    values, up = Scale(low, high, EDGE, width - EDGE), Scale(0, max(bins), height - ROW, 4)
    for i, count in enumerate(bins):
        start, stop = (low + (high - low) * edge / BINS for edge in (i, i + 1))
        hint = f"{number(start)} … {number(stop)}: {count}"
        left, right = values(start) + 1, values(stop) - 1
        chart.shapes.append(Box(left, up(count), right - left, up(0) - up(count), series_ink(0), hint))
    chart.line((EDGE, up(0)), (width - EDGE, up(0)), "grid")
    for tick in ticks(low, high, 7):
        chart.text(_inside(values(tick), _short(tick), width), height - ROW / 2 + 2, _short(tick), "middle")
    return chart


def _inside(x: float, text: str, width: int) -> float:
    """Where the middle of a text may lie, so that it stays in the drawing."""
    half = text_width(text) / 2
    return min(max(x, half), width - half)


def _short(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
