"""Charts: the same layout as SVG and as pixels, whatever the numbers are."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sd_imagereward.core.pages.charts import Series, bar_chart, histogram, line_chart, ticks
from sd_imagereward.core.pages.drawing import SERIES, Box, Dot, Drawing, Polyline

NAN = math.nan


def boxes(drawing: Drawing) -> list[Box]:
    return [shape for shape in drawing.shapes if isinstance(shape, Box)]


def texts(drawing: Drawing) -> list[str]:
    return [label.text for label in drawing.labels]


def test_bars_begin_at_zero_and_are_as_long_as_their_values() -> None:
    chart = bar_chart("", ["a", "b", "c"], [Series("s", [2.0, -1.0, NAN])])
    up, down = boxes(chart)
    assert up.width == pytest.approx(2 * down.width)
    assert down.x + down.width == pytest.approx(up.x)
    assert texts(chart).count("no score") == 1
    assert {"2.0000", "−1.0000"} <= set(texts(chart))


def test_an_interval_is_drawn_where_there_is_one() -> None:
    bare = bar_chart("", ["a", "b"], [Series("s", [1.0, 1.0])])
    chart = bar_chart("", ["a", "b"], [Series("s", [1.0, 1.0], [(0.5, 2.0), (NAN, NAN)])])
    whiskers = [shape for shape in chart.shapes if isinstance(shape, Polyline) and shape.ink == "ink"]
    assert len(whiskers) == 3
    assert boxes(chart)[0].width == pytest.approx(boxes(bare)[0].width / 2, rel=0.1)  # the axis holds the interval


def test_the_legend_sums_up_and_the_best_has_a_star() -> None:
    chart = bar_chart("", ["#0", "#1"], [Series("A", [0.5, 2.0]), Series("B", [NAN, NAN])], legend=True)
    assert {"A: best 2.0000, mean 1.2500, 2 in all", "B: no scores", "2.0000 *"} <= set(texts(chart))
    assert chart.summary == "A: best 2.0000, mean 1.2500, 2 in all; B: no scores"


def test_lines_go_through_their_points_and_leave_out_what_is_not_finite() -> None:
    chart = line_chart("t", {"a": [(0, 0.0), (1, NAN), (2, 1.0), (4, 2.0)]}, across="updates")
    [line] = [shape for shape in chart.shapes if isinstance(shape, Polyline) and shape.ink == "series-0"]
    (x0, y0), (x1, y1), (x2, y2) = line.points
    assert (x2 - x1, y1 - y2) == (pytest.approx(x1 - x0), pytest.approx(y0 - y1))
    assert [shape.hint for shape in chart.shapes if isinstance(shape, Dot)] == ["0: 0", "2: 1", "4: 2"]
    assert "4 updates" in texts(chart)


@pytest.mark.parametrize("line", [[], [(3, 0.5)], [(0, 1.0), (5, 1.0)], [(0, NAN)]])
def test_few_or_equal_points_are_drawn_too(line: list[tuple[float, float]]) -> None:
    chart = line_chart("t", {"a": line, "b": line})
    assert "NaN" not in chart.svg()
    assert chart.image().size[0] > 600


def test_a_histogram_counts_every_score_and_is_not_spread_by_an_outlier() -> None:
    scores = sorted([*np.random.RandomState(0).randn(999).tolist(), -40.0], reverse=True)
    chart = histogram("Scores", scores)
    assert chart is not None
    hints = [box.hint for box in boxes(chart)]
    assert sum(int(hint.rpartition(" ")[2]) for hint in hints) == 1000
    assert hints[0].startswith("−2")
    assert histogram("Scores", [1.0, 1.0]) is None


def test_pixels_and_svg_show_the_same_shapes() -> None:
    chart = bar_chart("Title", ["a"], [Series("s", [1.0])])
    pixels, box = np.asarray(chart.image(scale=2)), boxes(chart)[0]
    blue = tuple(int(SERIES[0][i : i + 2], 16) for i in (1, 3, 5))
    ys, xs = np.nonzero((pixels == blue).all(-1))
    assert xs.max() - xs.min() + 1 == pytest.approx(2 * box.width, abs=2)
    assert ys.max() - ys.min() + 1 == pytest.approx(2 * box.height, abs=2)
    rect = re.search(r'<rect class="series-0" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', chart.svg())
    assert rect is not None
    assert float(rect[3]) == pytest.approx(box.width, abs=0.1)


def test_names_of_any_kind_stay_one_line_of_text() -> None:
    name = "a\nb\x1b<script>\u202e" + "x" * 200
    chart = bar_chart(name, [name], [Series(name, [1.0])], legend=True)
    assert "<script>" not in chart.svg()
    assert "\x1b" not in chart.svg()
    assert all(label.x >= 0 and len(label.text) < 200 for label in chart.labels)
    chart.image()


def test_a_png_is_whole(tmp_path: Path) -> None:
    line_chart("t", {"a": [(0, 1.0), (1, 2.0), (2, 1.5)]}).save(tmp_path / "new" / "chart.png", scale=2)
    with Image.open(tmp_path / "new" / "chart.png") as image:
        image.load()


def test_ticks_are_round_numbers() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, pytest.approx(0.6), 0.8, 1.0]
    assert ticks(-130, 420) == [0, 200, 400]
    assert ticks(2.0, 2.0) == [2.0]
