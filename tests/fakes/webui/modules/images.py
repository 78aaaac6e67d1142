"""Saving with the two callbacks, file name patterns, the grid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from . import script_callbacks
from .shared import opts

NOTHING_AND_SKIP_PREVIOUS_TEXT = object()


class FilenameGenerator:
    replacements: dict[str, Any] = {"seed": lambda self: self.seed}  # noqa: RUF012 (as in the host)

    def __init__(self, p: Any, seed: Any, prompt: Any, image: Any) -> None:
        self.p, self.seed, self.prompt, self.image = p, seed, prompt, image

    def apply(self, x: str) -> str:
        name = ""
        for text, pattern in re.findall(r"(.*?)(?:\[([^\]]+)\]|$)", x):
            value = self.replacements[pattern](self) if pattern else ""
            if value is not NOTHING_AND_SKIP_PREVIOUS_TEXT:
                name += f"{text}{value}"
        return name


def save_image(
    image: Any,
    path: str,
    basename: str,
    seed: Any = None,
    prompt: Any = None,
    extension: str = "png",
    info: str | None = None,
    short_filename: bool = False,
    grid: bool = False,
    pnginfo_section_name: str = "parameters",
    p: Any = None,
    existing_info: dict[str, Any] | None = None,
    suffix: str = "",
) -> tuple[str, str | None]:
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    decoration = (
        basename if short_filename else FilenameGenerator(p, seed, prompt, image).apply(opts.samples_filename_pattern)
    )
    number = len(list(folder.glob(f"*.{extension}")))
    pnginfo = {**(existing_info or {}), pnginfo_section_name: info}
    filename = folder / f"{number:05}-{decoration}{suffix}.{extension}"
    params = script_callbacks.ImageSaveParams(image, p, str(filename), pnginfo)
    script_callbacks.call("before_image_saved", params)
    chunks = PngImagePlugin.PngInfo()
    for key, value in params.pnginfo.items():
        chunks.add_text(key, str(value))
    params.image.save(params.filename, pnginfo=chunks)
    text_file = None
    if opts.save_txt:
        text_file = str(Path(params.filename).with_suffix(".txt"))
        Path(text_file).write_text(params.pnginfo[pnginfo_section_name])
    script_callbacks.call("image_saved", params)
    return params.filename, text_file


def image_grid(imgs: list[Any], batch_size: int = 1, rows: int | None = None) -> Any:
    grid = Image.new("RGB", (sum(image.width for image in imgs), max(image.height for image in imgs)))
    left = 0
    for image in imgs:
        grid.paste(image, (left, 0))
        left += image.width
    return grid


def read_info_from_image(image: Any) -> tuple[str | None, dict[str, Any]]:
    rest = dict(image.info)
    return rest.pop("parameters", None), rest
