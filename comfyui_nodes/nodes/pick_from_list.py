from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .. import carried
from ..host_version import Schema


class PickFromList(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardPickFromList",
            display_name="ImageReward Pick from List",
            description="Takes from anything what belongs to the chosen images: prompts, seeds, SEGS, audio or any other "
            "list or batch, by the positions that Rank, Filter and Pick Best give.",
            search_aliases=["select by index", "list item", "same positions", "batch index"],
            is_input_list=True,
            inputs=[
                io.AnyType.Input("items", tooltip="A list or a batch of any type, in the order of the images."),
                io.Int.Input(
                    "positions",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Which items to take, from 0: positions from Rank or Filter, or the index from Pick Best.",
                ),
            ],
            outputs=[
                io.AnyType.Output(
                    "picked",
                    is_output_list=True,
                    tooltip="The items in the order of the positions: a batch if a batch came in, else a list.",
                )
            ],
        )

    @classmethod
    def execute(cls, items: list[Any], positions: list[int]) -> io.NodeOutput:
        return io.NodeOutput(carried.Anything(items).take(positions))
