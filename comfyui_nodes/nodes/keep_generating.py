"""Keep generating until good: a start, an end, and the two nodes of which the end builds each further try."""

from __future__ import annotations

from typing import Any

import comfy.model_management as model_management
import comfy.utils
from comfy_api.latest import io
from server import PromptServer

from ..file_names import SCORE_MARK
from ..host_version import Schema
from ..saving import workflow_chunks
from ..tries import (
    BEST,
    NEXT,
    NOTHING,
    OUTPUTS,
    SEEDS,
    Found,
    Goal,
    Start,
    finish,
    judge,
    next_try,
    open_run,
    outputs,
    shown,
    tries_of,
)
from ..types import FoundType, RewardModelType, ScoresType, TriesType


class SeedOfEachTry(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardSeedOfEachTry",
            display_name="ImageReward Seed of Each Try",
            description="Where 'ImageReward Keep Generating' begins again: connect the seed to the sampler, and 'tries' to "
            "that node. Each try has the seed after that of the try before.",
            search_aliases=["loop start", "retry", "until good", "seed"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Int.Input(
                    "first_seed",
                    default=0,
                    min=0,
                    max=SEEDS - 1,
                    control_after_generate=True,
                    tooltip="Seed of the first try. With 'fixed' an unchanged run is not repeated, with 'randomize' each "
                    "run has new tries.",
                ),
            ],
            outputs=[
                io.Int.Output("seed", tooltip="Of this try. Connect it to everything that is to differ between tries."),
                io.Int.Output("number", tooltip="Number of this try, from 1."),
                TriesType.Output("tries", tooltip="For 'ImageReward Keep Generating'."),
            ],
        )

    @classmethod
    def execute(cls, first_seed: int) -> io.NodeOutput:
        return io.NodeOutput(first_seed, 1, Start(str(cls.hidden.unique_id), first_seed))


def _judged() -> list[io.Input]:
    """What the end takes from each try."""
    return [
        io.Image.Input(
            "image",
            optional=True,
            tooltip="The images of a try. Left open, they are decoded from 'latent' with 'vae', which needs less memory: "
            "ComfyUI keeps the images of every VAE Decode.",
        ),
        io.Latent.Input("latent", optional=True, tooltip="Their latents; those of the passing images come out."),
        io.Vae.Input("vae", optional=True, tooltip="Decodes the latents if no images are connected."),
        io.MultiType.Input(
            "scores",
            [ScoresType, io.Float],
            optional=True,
            tooltip="Scores of these images. Left open, the reward model below scores them.",
        ),
        RewardModelType.Input("reward_model", optional=True, tooltip="Scores the images if no scores are connected."),
        io.String.Input(
            "prompt",
            multiline=True,
            default="",
            optional=True,
            tooltip="What the images should show. Read only if the reward model above scores the images.",
        ),
    ]


class KeepGenerating(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardKeepGenerating",
            display_name="ImageReward Keep Generating",
            description="Keeps generating until enough images pass the threshold: runs everything between 'ImageReward "
            "Seed of Each Try' and this node again with the following seeds. Interrupt stops at once.",
            search_aliases=["until good", "loop", "retry", "reroll", "rejection sampling"],
            is_input_list=True,
            is_output_node=True,
            enable_expand=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                TriesType.Input("tries", tooltip="From 'ImageReward Seed of Each Try'."),
                *_judged(),
                io.Int.Input(
                    "until",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="Keep generating until this many images pass the threshold.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    tooltip="The lowest score that passes. Half of all images score above 0 with ImageReward, one in six "
                    "above 1.",
                ),
                io.Int.Input(
                    "maximum_tries",
                    default=4,
                    min=1,
                    max=1000,
                    tooltip="Where it ends if too few images pass. Each try makes one batch.",
                ),
                io.Combo.Input(
                    "if_none_pass",
                    options=[BEST, NOTHING],
                    default=BEST,
                    tooltip="What comes out if no image passes. With 'nothing', the nodes after this one are skipped with a "
                    "message.",
                ),
                io.Boolean.Input(
                    "save_as_found",
                    default=False,
                    tooltip="Saves each passing image (PNG) as soon as it is found, so that no interrupt or error loses it.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default=f"ImageReward/{SCORE_MARK}",
                    tooltip=f"Name of these files below the output folder. {SCORE_MARK} becomes the score.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Image.Output("images", is_output_list=True, tooltip="The images that pass, best first, one by one."),
                ScoresType.Output("out_scores", "scores", tooltip="Their scores."),
                io.Latent.Output("latents", is_output_list=True, tooltip="Their latents, if 'latent' is connected."),
                io.Int.Output("seeds", is_output_list=True, tooltip="The seed of the try that made each image."),
                io.Int.Output("passed", tooltip="How many images pass; comes out even if there are none."),
                io.Int.Output("tries_used", tooltip="How many tries were made."),
                io.String.Output("text", tooltip="The same in a sentence."),
            ],
        )

    @classmethod
    def execute(
        cls,
        tries: list[Any],
        until: list[int],
        threshold: list[float],
        maximum_tries: list[int],
        if_none_pass: list[str],
        save_as_found: list[bool],
        filename_prefix: list[str],
        **given: Any,
    ) -> io.NodeOutput:
        prefix = filename_prefix[0] if save_as_found[0] else ""
        goal = Goal(until[0], threshold[0], maximum_tries[0], if_none_pass[0], prefix)
        found = open_run(cls.hidden.dynprompt.get_node, str(cls.hidden.unique_id), tries_of(tries[0]), goal)
        found = judge(found, workflow_chunks(cls.hidden), given)
        after = f"{found.end}.next"
        graph = {after: {"class_type": NEXT, "inputs": {"found": found}}}
        return io.NodeOutput(*_links(after), expand=graph)


class JudgeTry(io.ComfyNode):
    """Done before the next try begins, so that the host may let go of the images of this one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardJudgeTry",
            display_name="ImageReward Keep Generating (judge)",
            description="A part of 'ImageReward Keep Generating', which puts it to work by itself.",
            is_dev_only=True,
            is_input_list=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[FoundType.Input("found", tooltip="What the tries before have found."), *_judged()],
            outputs=[FoundType.Output("found_now", tooltip="The same with this try.")],
        )

    @classmethod
    def execute(cls, found: list[Found], **given: Any) -> io.NodeOutput:
        return io.NodeOutput(judge(found[0], workflow_chunks(cls.hidden), given))


class NextTry(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardNextTry",
            display_name="ImageReward Keep Generating (next)",
            description="A part of 'ImageReward Keep Generating', which puts it to work by itself.",
            is_dev_only=True,
            enable_expand=True,
            hidden=[io.Hidden.dynprompt],
            inputs=[FoundType.Input("found", tooltip="What the tries so far have found.")],
            # Lists as single values: the host cannot hand the list outputs of an expanded node on.
            outputs=[
                io.Image.Output("images", tooltip="A list of the images that pass."),
                ScoresType.Output("scores", tooltip="Their scores."),
                io.Latent.Output("latents", tooltip="A list of their latents."),
                io.Int.Output("seeds", tooltip="A list of their seeds."),
                io.Int.Output("passed", tooltip="How many images pass."),
                io.Int.Output("tries_used", tooltip="How many tries were made."),
                io.String.Output("text", tooltip="The same in a sentence."),
            ],
        )

    @classmethod
    def execute(cls, found: Found) -> io.NodeOutput:
        model_management.throw_exception_if_processing_interrupted()
        _tell(found)
        if not found.wants_more:
            finish(found)
            return io.NodeOutput(*outputs(found), ui=shown(found))
        graph, after = next_try(cls.hidden.dynprompt.get_node, found)
        return io.NodeOutput(*_links(after), ui=shown(found), expand=graph)


def _links(node: str) -> list[list[Any]]:
    return [[node, slot] for slot in range(OUTPUTS)]


def _tell(found: Found) -> None:
    """On the node of the user: a bar of tries, and how many images pass."""
    bar = comfy.utils.ProgressBar(found.goal.maximum_tries, node_id=found.end)
    bar.update_absolute(found.tries)
    PromptServer.instance.send_progress_text(found.text(), found.end)
