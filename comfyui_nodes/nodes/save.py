from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import comfy.model_management as model_management
import comfy.utils
from comfy_api.latest import io

from ...core.errors import ImageRewardError
from ...core.files.console import counted
from ..file_names import SCORE_MARK, fill_in
from ..host_version import Schema
from ..images import to_pixels
from ..saving import ENDINGS, FileSettings, save, workflow_chunks
from ..scores import BYPASS, join
from ..types import ScoresType

NOT_CONNECTED = object()


class SaveScoredImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardSave",
            display_name="ImageReward Save Scored Images",
            description="Saves images with workflow and prompt as ComfyUI's Save Image does, and with the score on an "
            "A1111 parameters line, where PNG Info and image browsers find it.",
            search_aliases=["save image with metadata", "export", "png info"],
            is_input_list=True,
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Image.Input("image", tooltip="A batch of images, or a list of images of any sizes."),
                io.MultiType.Input(
                    "scores", [ScoresType, io.Float], optional=True, tooltip="The scores of these images. Needed."
                ),
                io.String.Input(
                    "filename_prefix",
                    default=f"ImageReward/{SCORE_MARK}",
                    tooltip=f"Name of the files below the output folder: one for all, or a list with one for each image. "
                    f"{SCORE_MARK} becomes the score; ComfyUI's own marks (%width%, %date:yyyy-MM-dd%, %KSampler.seed%, ...) "
                    "work too. A number behind it keeps every older file.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(ENDINGS),
                    default="PNG",
                    tooltip="PNG loses nothing. JPEG has room for 64 KB of workflow.",
                ),
                io.Int.Input(
                    "quality",
                    default=95,
                    min=1,
                    max=100,
                    tooltip="Of JPEG and WebP; higher is better and larger.",
                    advanced=True,
                ),
                io.Boolean.Input(
                    "components",
                    default=True,
                    optional=True,
                    tooltip="Writes the components of a mixture, or the measures of 'technical', beside the score.",
                    advanced=True,
                ),
            ],
            outputs=[io.Image.Output("images", is_output_list=True, tooltip="The images, as they came in.")],
        )

    @classmethod
    def validate_inputs(cls, image: Any = None, scores: Any = NOT_CONNECTED) -> bool | str:
        """`scores` is optional in the schema so that the refusal, before anything runs, can name bypass."""
        return f"Scores are not connected. {BYPASS}" if scores is NOT_CONNECTED else True

    @classmethod
    def execute(
        cls,
        image: list[Any],
        filename_prefix: list[str],
        format: list[str],
        quality: list[int],
        scores: Sequence[Any] = (),
        components: Sequence[bool] = (True,),
    ) -> io.NodeOutput:
        pixels = to_pixels(image)
        given = join(scores)
        if len(given) != len(pixels):
            raise ImageRewardError(
                f"{counted(len(given), 'score')} for {counted(len(pixels), 'image')}: connect the scores of these images."
            )
        prefixes = _prefixes(filename_prefix, len(pixels), cls.hidden.prompt)
        settings = FileSettings(ENDINGS[format[0]], quality[0], components[0])
        chunks = workflow_chunks(cls.hidden)
        bar = comfy.utils.ProgressBar(len(pixels))
        saved, failures = [], []
        for i, one in enumerate(pixels):
            model_management.throw_exception_if_processing_interrupted()
            try:
                saved.append(save(one, prefixes[i], given, i, settings, chunks))
            except (OSError, ValueError, ImageRewardError) as error:  # the others are saved all the same
                failures.append(f"image {i + 1}: {error}")
            bar.update_absolute(i + 1, len(pixels))
        if failures:
            many = f"{len(failures)} of {counted(len(pixels), 'image')} could not be saved, the others are"
            raise ImageRewardError(f"{many if saved else 'No image could be saved'}. " + "; ".join(failures[:3]))
        return io.NodeOutput(image, ui={"images": saved})


def _prefixes(given: Sequence[str], images: int, graph: Any) -> list[str]:
    """One for each image."""
    if len(given) not in (1, images):
        raise ImageRewardError(
            f"{counted(len(given), 'file name')} for {counted(images, 'image')}: connect one 'filename_prefix' for all, or one "
            "for each image."
        )
    now = datetime.now()
    filled = [fill_in(one, graph, now) for one in given]
    return filled * images if len(filled) == 1 else filled
