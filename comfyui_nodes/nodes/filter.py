from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ...core.errors import ImageRewardError
from ...core.scoring.selection import split
from .. import scored_images
from ..host_version import Schema

NO_GREAT = 100.0  # as `great_threshold`


class FilterImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardFilter",
            display_name="ImageReward Filter",
            description="Divides images by score: those that pass the threshold are kept, the others and those without a "
            "score (NaN) rejected. With a second, higher threshold the great ones come out apart. What is connected to a "
            "side without images is skipped.",
            search_aliases=["threshold", "reject bad images", "quality gate", "great ok bad"],
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
                io.Float.Input(
                    "great_threshold",
                    default=NO_GREAT,
                    min=-100.0,
                    max=NO_GREAT,
                    step=0.05,
                    optional=True,
                    tooltip="The lowest score of a great image, which comes out as great and not as kept. "
                    "At 100 there are no great images.",
                    advanced=True,
                ),
            ],
            outputs=[
                *scored_images.outputs("kept", "kept images"),
                *scored_images.outputs("rejected", "rejected images"),
                io.Int.Output("kept_count", tooltip="How many images were kept; comes out even if there are none."),
                *scored_images.outputs("great", "great images"),
                io.Int.Output("rejected_count", tooltip="How many images were rejected."),
                io.Int.Output("great_count", tooltip="How many images are great."),
                *(_positions(side) for side in ("kept", "rejected", "great")),
            ],
        )

    @classmethod
    def execute(
        cls,
        threshold: list[float],
        keep_at_least: list[int],
        great_threshold: Sequence[float] = (NO_GREAT,),
        **shared: Any,
    ) -> io.NodeOutput:
        gathered = scored_images.gather(**shared)
        great, kept, rejected = three_ways(
            gathered.scores.total, threshold[0], great_threshold[0], at_least=keep_at_least[0]
        )
        return io.NodeOutput(
            *gathered.take(kept),
            *gathered.take(rejected),
            len(kept),
            *gathered.take(great),
            len(rejected),
            len(great),
            *(scored_images.or_blocked(side) for side in (kept, rejected, great)),
        )


def three_ways(
    scores: Sequence[float], threshold: float, great_threshold: float, *, at_least: int
) -> tuple[list[int], list[int], list[int]]:
    """Positions of the great, the kept and the rejected, each in the order given; the `at_least` best are not rejected."""
    if great_threshold >= NO_GREAT:
        passed = split(scores, threshold, at_least=at_least)
        return [], passed.kept, passed.rejected
    if great_threshold < threshold:
        raise ImageRewardError(
            f"'great_threshold' ({great_threshold:g}) is below 'threshold' ({threshold:g}): raise it, "
            f"or set it to {NO_GREAT:g} for no great images."
        )
    great = split(scores, great_threshold).kept
    passed = split(scores, threshold, at_least=at_least)
    return great, [i for i in passed.kept if i not in set(great)], passed.rejected


def _positions(side: str) -> io.Output:
    return io.Int.Output(
        f"{side}_positions",
        is_output_list=True,
        tooltip=f"Where the {side} images stood before, from 0. For Pick from List.",
    )
