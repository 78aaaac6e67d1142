from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from .. import scored_images, scoring
from ..captions import preview
from ..host_version import Schema
from ..hosting import expect_reward_model
from ..images import to_pixels
from ..types import RewardModelType, ScoresType


class ScoreImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardScore",
            display_name="ImageReward Score",
            description="Scores images: how well they show the prompt and how much people would like them. Higher is "
            "better; ImageReward's scores lie mostly between -2 and 2.",
            search_aliases=["rate images", "aesthetic score", "quality", "human preference"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                RewardModelType.Input("reward_model", tooltip="From 'ImageReward Load Reward Model'."),
                io.Image.Input("image", tooltip="A batch of images, or a list of images of any sizes."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="What the images should show: one text for all, or a list with one for each image.",
                ),
                io.Boolean.Input(
                    "plain_prompt",
                    default=True,
                    tooltip="Reads the prompt without weights (x:1.2), embeddings and choices in braces, which the "
                    "reward model would read as words.",
                ),
                io.Int.Input(
                    "chunk",
                    default=scoring.CHUNK,
                    min=1,
                    max=256,
                    tooltip="How many images to score at once, at most. Fewer if they take long or memory runs out.",
                    advanced=True,
                ),
                scored_images.names_input(),
            ],
            outputs=[
                io.Image.Output("images", is_output_list=True, tooltip="The images, as they came in."),
                ScoresType.Output("scores", tooltip="For Rank, Filter, Pick Best, Save and Score Table."),
                io.Float.Output("values", is_output_list=True, tooltip="The scores as a list of numbers."),
                io.Float.Output("best", tooltip="The highest score."),
                io.Float.Output("mean", tooltip="The mean score."),
                io.String.Output("text", tooltip="A line for each image."),
                io.Float.Output(
                    "softmax",
                    is_output_list=True,
                    tooltip="The scores as shares that add up to 1: a softmax over these images, which should have the "
                    "same prompt. An image without a score has 0.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        reward_model: list[Any],
        image: list[Any],
        prompt: list[str],
        plain_prompt: list[bool],
        chunk: list[int],
        names: Sequence[str] = (),
    ) -> io.NodeOutput:
        model = expect_reward_model(reward_model[0])
        pixels = to_pixels(image)
        prompts = scoring.prompts_for(model, prompt, len(pixels), plain_prompt[0])
        scores = scoring.score(model, pixels, prompts, chunk[0]).named(names)
        return io.NodeOutput(
            image,
            scores,
            list(scores.total),
            scores.best,
            scores.mean,
            scores.text(),
            list(scores.softmax()),
            ui=preview(pixels, scores),
        )
