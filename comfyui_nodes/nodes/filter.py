from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...core.scoring.selection import split
from .. import scored_images
from ..host_version import Schema


class FilterImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardFilter",
            display_name="ImageReward Filter",
            description="Divides images by score: those that pass the threshold are kept, the others rejected. What is "
            "connected to a side without images is skipped.",
            search_aliases=["threshold", "reject bad images", "quality gate"],
            is_input_list=True,
            inputs=[
                *scored_images.inputs(),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    tooltip="The lowest score to keep. 0 is ImageReward's average image.",
                ),
                io.Int.Input(
                    "keep_at_least",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="How many of the best to keep even below the threshold.",
                ),
            ],
            outputs=[
                *scored_images.outputs("kept", "kept images"),
                *scored_images.outputs("rejected", "rejected images"),
                io.Int.Output("kept_count", tooltip="How many images were kept; comes out even if there are none."),
            ],
        )

    @classmethod
    def execute(cls, threshold: list[float], keep_at_least: list[int], **shared: Any) -> io.NodeOutput:
        gathered = scored_images.gather(**shared)
        split_scores = split(gathered.scores.total, threshold[0], at_least=keep_at_least[0])
        return io.NodeOutput(
            *gathered.take(split_scores.kept), *gathered.take(split_scores.rejected), len(split_scores.kept)
        )
