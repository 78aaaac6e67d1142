from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ...core.errors import BadImage, ImageRewardError
from ...core.pictures.formats.table import LABELLED_ENDINGS, ending_of
from ...core.pictures.opening import open_picture
from ...core.pictures.prompt_in_file import find_origin
from ...core.pictures.texts import read_parameters
from ...core.scoring.selection import rank, split
from ...core.scoring.written import written_scores
from .. import stamps
from ..contained import files_below, folder_below
from ..host_version import Schema
from ..pictures import to_image
from ..scores import Scores
from ..types import ScoresType

BEST, WORST, NAME = "best first", "worst first", "by name"
DEEPEST = 3  # levels of subfolders that the list offers


class LoadScoredImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardLoadScored",
            display_name="ImageReward Load Scored Images",
            description="Images of a folder whose files carry a score, written by ImageReward Save, by a WebUI or by "
            "`imagereward curate --label`; the best of them, each in its own size.",
            search_aliases=["load best images", "curate"],
            inputs=[
                io.Combo.Input("folder", options=_folders(), tooltip="A folder of ComfyUI's output or input."),
                io.Float.Input(
                    "min_score", default=-100.0, min=-100.0, max=100.0, step=0.05, tooltip="The lowest score to load."
                ),
                io.Int.Input(
                    "best_n", default=10, min=0, max=4096, tooltip="How many of the best to load; 0 loads all."
                ),
                io.Combo.Input("sort", options=[BEST, WORST, NAME], tooltip="The order of the images."),
                io.String.Input(
                    "score_name", default="", tooltip="Which score, such as ImageReward; empty: the first in each file."
                ),
            ],
            outputs=[
                io.Image.Output("images", is_output_list=True, tooltip="One image a file."),
                ScoresType.Output("scores", tooltip="Their scores, for Rank, Filter, Pick Best and Score Table."),
                io.String.Output("prompts", is_output_list=True, tooltip="The prompt of each file; empty if unknown."),
                io.String.Output("names", is_output_list=True, tooltip="The names of the files without their ending."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: Any, **_: Any) -> Any:
        return stamps.stamp([folder], lambda: _files(folder))

    @classmethod
    def execute(cls, folder: str, min_score: float, best_n: int, sort: str, score_name: str = "") -> io.NodeOutput:
        labels = list(_labels(_files(folder), score_name.strip()))
        kept = split([score for _, _, score in labels], min_score, top=best_n).kept
        chosen = [labels[i] for i in kept]
        if not chosen:
            raise ImageRewardError(
                f"No file in {folder!r} carries a score of at least {min_score:g} ({len(labels)} carry one); write scores "
                "with ImageReward Save or: imagereward curate FOLDER --label"
            )
        if sort != NAME:
            order = rank([score for _, _, score in chosen])
            chosen = [chosen[i] for i in (order if sort == BEST else reversed(order))]
        return _loaded(chosen)


def _loaded(chosen: list[tuple[Path, str, float]]) -> io.NodeOutput:
    bar = comfy.utils.ProgressBar(len(chosen))
    images: list[Tensor] = []
    prompts: list[str] = []
    read: list[tuple[Path, str, float]] = []
    for done, (file, title, score) in enumerate(chosen, start=1):
        model_management.throw_exception_if_processing_interrupted()
        try:
            picture = open_picture(file)
            images.append(to_image(picture.upright))
            prompts.append(find_origin(file, picture.image).plain or "")
            read.append((file, title, score))
        except BadImage as error:
            logging.warning("ImageReward Load Scored Images: left out, %s", error)
        bar.update_absolute(done, len(chosen))
    if not read:
        raise ImageRewardError(f"None of the {len(chosen)} scored files could be read; the log says why.")
    names = [file.stem for file, _, _ in read]
    scores = Scores(read[0][1], tuple(score for _, _, score in read), prompts=tuple(prompts), names=tuple(names))
    return io.NodeOutput(images, scores, prompts, names)


def _labels(files: list[Path], score_name: str) -> Iterator[tuple[Path, str, float]]:
    """(file, title, score) of the files that carry the score."""
    for file in files:
        try:
            found = written_scores(read_parameters(file) or "")
        except BadImage:
            continue
        title = score_name or next(iter(found), "")
        if math.isfinite(found.get(title, math.nan)):
            yield file, title, found[title]


def _folders() -> list[str]:
    """ "output", "output/sub", "input", ..: what the list offers."""
    found = []
    for name, top in _tops().items():
        for place, folders, _ in os.walk(top):
            relative = Path(place).relative_to(top)
            folders[:] = (
                sorted(one for one in folders if not one.startswith(".")) if len(relative.parts) < DEEPEST else []
            )
            found.append((Path(name) / relative).as_posix())
    return found


def _files(folder: str) -> list[Path]:
    name, _, below = str(folder).replace(os.sep, "/").partition("/")  # a link may bring anything
    top = _tops().get(name)
    place = folder_below(top, below) if top is not None else None
    if top is None or place is None:
        raise ImageRewardError(
            f"Folder {folder!r} not found in ComfyUI's output or input. Press R to refresh the list."
        )
    return files_below(top, place, _is_labelled)


def _is_labelled(file: Path) -> bool:
    return ending_of(file) in LABELLED_ENDINGS


def _tops() -> dict[str, str]:
    return {"output": folder_paths.get_output_directory(), "input": folder_paths.get_input_directory()}
