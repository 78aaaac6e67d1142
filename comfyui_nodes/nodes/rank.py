from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...core.scoring.selection import rank
from .. import scored_images
from ..host_version import Schema


class RankImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardRank",
            display_name="ImageReward Rank",
            description="Sorts images by score, best first, and keeps the top ones. Latents, masks and conditioning "
            "follow in the same order. Images without a score (NaN) come last.",
            search_aliases=["sort images", "top k", "best of"],
            is_input_list=True,
            inputs=[
                *scored_images.inputs(),
                io.Int.Input("top", default=0, min=0, max=4096, tooltip="How many of the best to keep; 0 keeps all."),
            ],
            outputs=[
                *scored_images.outputs(which="ranked images"),
                io.Int.Output(
                    "positions",
                    is_output_list=True,
                    tooltip="Where each image stood before, from 0. For Pick from List.",
                ),
            ],
        )

    @classmethod
    def execute(cls, top: list[int], **shared: Any) -> io.NodeOutput:
        gathered = scored_images.gather(**shared)
        order = rank(gathered.scores.total, top[0])
        return io.NodeOutput(*gathered.take(order), order)
