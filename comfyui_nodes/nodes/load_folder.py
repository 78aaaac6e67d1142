from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ...core.errors import BadImage, ImageRewardError
from ...core.files.console import counted
from ...core.pictures.formats.table import LISTED_ENDINGS, is_listed
from ...core.pictures.opening import open_image
from .. import stamps
from ..contained import files_below, folder_below
from ..host_version import Schema
from ..pictures import to_image


class LoadImageFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardLoadFolder",
            display_name="ImageReward Load Image Folder",
            description="All images of a folder below ComfyUI's input folder, as a list, each in its own size. A file "
            "that cannot be read is left out and named in the log.",
            search_aliases=["load images from directory", "batch load"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=folder_paths.get_input_subfolders(),
                    tooltip="A folder below ComfyUI's input folder.",
                ),
            ],
            outputs=[
                io.Image.Output("images", is_output_list=True, tooltip="One image a file, sorted by name."),
                io.String.Output("names", is_output_list=True, tooltip="The names of the files without their ending."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: Any) -> Any:
        return stamps.stamp([folder], lambda: _files(folder))

    @classmethod
    def execute(cls, folder: str) -> io.NodeOutput:
        files = _files(folder)
        bar = comfy.utils.ProgressBar(len(files))
        images: list[Tensor] = []
        names: list[str] = []
        for done, file in enumerate(files, start=1):
            model_management.throw_exception_if_processing_interrupted()
            try:
                images.append(to_image(open_image(file)))
                names.append(file.stem)
            except BadImage as error:
                logging.warning("ImageReward Load Image Folder: left out, %s", error)
            bar.update_absolute(done, len(files))
        if not images:
            raise ImageRewardError(
                f"No readable image among {counted(len(files), 'file')} in {folder!r} ({', '.join(sorted(LISTED_ENDINGS))})."
            )
        return io.NodeOutput(images, names)


def _files(folder: str) -> list[Path]:
    top = folder_paths.get_input_directory()
    place = folder_below(top, folder)
    if place is None:
        raise ImageRewardError(
            f"Folder {folder!r} not found below ComfyUI's input folder. Press R to refresh the list."
        )
    return files_below(top, place, is_listed)
