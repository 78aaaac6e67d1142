from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker

from ...core.errors import ImageRewardError
from ...core.scoring.selection import best
from .. import scored_images
from ..captions import preview
from ..host_version import Schema
from ..images import to_pixels
from ..types import ScoresType


class PickBest(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardPickBest",
            display_name="ImageReward Pick Best",
            description="The image with the highest score, its latent, and where it stood, so that its seed can be found "
            "again: the first seed plus the index, where each image had a seed of its own. An image without a score (NaN) "
            "never wins.",
            search_aliases=["best of n", "winner", "highest score"],
            is_input_list=True,
            inputs=scored_images.inputs(),
            outputs=[
                io.Image.Output("best_image", tooltip="One image."),
                io.Float.Output("score", tooltip="Its score."),
                io.Latent.Output("best_latent", tooltip="Its latent."),
                io.Int.Output("index", tooltip="Where it stood among the images, from 0. For Pick from List."),
                io.Mask.Output("best_mask", tooltip="Its mask."),
                io.Conditioning.Output("conditioning", tooltip="Its conditioning."),
                ScoresType.Output("best_scores", tooltip="Its score with title, components and prompt, for Save."),
            ],
        )

    @classmethod
    def execute(cls, **shared: Any) -> io.NodeOutput:
        gathered = scored_images.gather(**shared)
        try:
            index = best(gathered.scores.total)
        except ImageRewardError as error:  # no image has a score
            # Not raised: ComfyUI would send the inputs along, and its page reads no message with NaN among them.
            return io.NodeOutput(*[ExecutionBlocker(str(error))] * len(cls.define_schema().outputs))
        image, scores, *carried = gathered.take([index])
        latent, mask, conditioning = (one[0] if isinstance(one, list) else one for one in carried)
        return io.NodeOutput(
            image[0],
            scores.total[0],
            latent,
            index,
            mask,
            conditioning,
            scores,
            ui=preview(to_pixels(image), scores),
        )
