from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ...core.pages.charts import Series, bar_chart
from ..captions import show
from ..host_version import Schema
from ..pictures import to_image
from ..scores import Scores, join
from ..types import ScoresType


class ScoreTable(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        scores_types = [ScoresType, io.Float]
        return Schema(
            node_id="SDImageRewardScoreTable",
            display_name="ImageReward Score Table",
            description="Draws scores as a bar chart with numbers; two rows of scores side by side, to compare "
            "checkpoints, samplers or LoRAs.",
            search_aliases=["chart", "plot scores", "compare checkpoints"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.MultiType.Input("scores", scores_types, tooltip="From 'ImageReward Score', or a list of numbers."),
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
            ],
            outputs=[io.Image.Output("chart", tooltip="The chart as an image.")],
        )

    @classmethod
    def execute(
        cls,
        scores: list[Any],
        compare_with: Sequence[Any] = (),
        label: Sequence[str] = ("",),
        compare_label: Sequence[str] = ("",),
        components: Sequence[bool] = (False,),
    ) -> io.NodeOutput:
        series = _series(join(scores), label[0], components[0])
        if compare_with:
            series += _series(join(compare_with), compare_label[0], components[0])
        rows = [f"#{row}" for row in range(max(len(one.values) for one in series))]
        chart = bar_chart("", rows, series, legend=True).image()
        return io.NodeOutput(to_image(chart), ui=show(chart))


def _series(scores: Scores, label: str, components: bool) -> list[Series]:
    name = label or scores.title
    shown = scores.components if components else {}
    return [Series(name, scores.total), *(Series(f"{name}: {title}", row) for title, row in shown.items())]
