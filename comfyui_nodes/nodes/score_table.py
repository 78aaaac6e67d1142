from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ...core.pages.charts import BAR, GAP, ROW, Series, bar_chart
from .. import scored_images
from ..captions import show
from ..host_version import Schema
from ..pictures import to_image
from ..scores import Scores, join
from ..types import ScoresType

HIGHEST = 900  # pixels of a chart: it fits on a screen


class ScoreTable(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        scores_types = [ScoresType, io.Float]
        return Schema(
            node_id="SDImageRewardScoreTable",
            display_name="ImageReward Score Table",
            description="Draws scores as a bar chart with numbers, best first; two rows of scores side by side, to compare "
            "checkpoints, samplers or LoRAs.",
            search_aliases=["chart", "plot scores", "compare checkpoints"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.MultiType.Input(
                    "scores",
                    scores_types,
                    optional=True,  # so that the message can name bypass
                    tooltip="From 'ImageReward Score', or a list of numbers.",
                ),
                io.MultiType.Input("compare_with", scores_types, optional=True, tooltip="A second row of scores."),
                io.String.Input(
                    "label", default="", optional=True, tooltip="Name of the first row; empty: the reward model's."
                ),
                io.String.Input("compare_label", default="", optional=True, tooltip="Name of the second row."),
                io.Boolean.Input(
                    "components",
                    default=False,
                    optional=True,
                    tooltip="Bars of their own for the components of a mixture, or the measures of 'technical'.",
                ),
                scored_images.names_input(),
            ],
            outputs=[io.Image.Output("chart", tooltip="The chart as an image.")],
        )

    @classmethod
    def execute(
        cls,
        scores: Sequence[Any] = (),
        compare_with: Sequence[Any] = (),
        label: Sequence[str] = ("",),
        compare_label: Sequence[str] = ("",),
        components: Sequence[bool] = (False,),
        names: Sequence[str] = (),
    ) -> io.NodeOutput:
        first = join(scores).named(names)
        second = join(compare_with) if compare_with else None
        order = _order(first, second)
        series = _series(first, order, label[0], components[0])
        if second is not None:
            series += _series(second, order, compare_label[0], components[0])
        rows = [_name(first, second, i) for i in order[: _most_rows(len(series))]]
        title = f"The first {len(rows)} of {len(order)}, best first" if len(rows) < len(order) else ""
        chart = bar_chart(title, rows, series, legend=True).image()
        return io.NodeOutput(to_image(chart), ui=show(chart))


def _order(first: Scores, second: Scores | None) -> list[int]:
    """Positions by the first row, best first; where the second row is longer, its rest."""
    return [*first.order(), *range(len(first), len(second or ()))]


def _name(first: Scores, second: Scores | None, i: int) -> str:
    return first.name(i) if second is None or i < len(first) else second.name(i)


def _series(scores: Scores, order: Sequence[int], label: str, components: bool) -> list[Series]:
    def placed(values: Sequence[float]) -> list[float]:
        return [values[i] if i < len(values) else math.nan for i in order]

    name = label or scores.title
    shown = scores.components if components else {}
    return [
        Series(name, placed(scores.total)),
        *(Series(f"{name}: {title}", placed(row)) for title, row in shown.items()),
    ]


def _most_rows(series: int) -> int:
    """Rows of so many bars that fit below a title and the legend, above the axis."""
    return max(1, (HIGHEST - ROW * (series + 3)) // (BAR * series + GAP))
