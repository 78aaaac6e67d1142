"""Images to files, with ComfyUI's own texts and the score on an A1111 parameters line."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui
from torch import Tensor

from ..core.errors import ImageRewardError
from ..core.infotext.scores import set_scores
from ..core.pictures.saving import save_image
from .file_names import for_image
from .pictures import to_picture
from .scores import Scores

ENDINGS = {"PNG": "png", "JPEG": "jpg", "WebP": "webp"}


@dataclass(frozen=True)
class FileSettings:
    ending: str
    quality: int
    components: bool = True  # write the components of a mixture beside its score


def save(
    pixels: Tensor, prefix: str, scores: Scores, i: int, settings: FileSettings, chunks: Mapping[str, Any]
) -> ui.SavedResult:
    """Writes image `i` (3, H, W) below ComfyUI's output folder, to a file that is new. Says which.

    prefix: what `file_names.fill_in` returns.
    """
    height, width = pixels.shape[1:]
    folder, stem, counter, subfolder = _place(for_image(prefix, scores.total[i], i), width, height)
    picture, texts = to_picture(pixels), _texts(scores, i, (width, height), settings, chunks)
    for number in count(counter):
        name = f"{stem}_{number:05}_.{settings.ending}"
        with suppress(FileExistsError):  # of another server, which counts in the same folder
            save_image(picture, folder / name, quality=settings.quality, overwrite=False, **texts)
            break
    return ui.SavedResult(name, subfolder, io.FolderType.output)


def _place(prefix: str, width: int, height: int) -> tuple[Path, str, int, str]:
    """The folder, the file's name without its number, the first number to try, the folder's name below `output`."""
    try:
        folder, stem, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), width, height
        )
    except OSError:
        raise
    except Exception as error:  # the host raises no narrower one
        raise ImageRewardError(
            f"Expected a filename_prefix that stays in ComfyUI's output folder, got {prefix!r}."
        ) from error
    return Path(folder), stem, counter, subfolder


def _texts(
    scores: Scores, i: int, size: tuple[int, int], settings: FileSettings, chunks: Mapping[str, Any]
) -> dict[str, Any]:
    if args.disable_metadata:
        return {"parameters": "", "chunks": {}}
    others = dict(chunks)
    base = others.pop("parameters", None)  # an A1111 text that a node of another pack put there
    return {"parameters": parameters(scores, i, size, settings.components, base), "chunks": others}


def parameters(scores: Scores, i: int, size: tuple[int, int], components: bool, base: str | None = None) -> str:
    """`base`, or the prompt, and a line such as `Size: 512x768, Version: ComfyUI, ImageReward: 0.5812`."""
    prompt = scores.prompts[i] if scores.prompts else ""
    values = {scores.title: scores.total[i]}
    if components:
        values |= {title: row[i] for title, row in scores.components.items()}
    return set_scores(base or prompt, values, facts={"Size": f"{size[0]}x{size[1]}", "Version": "ComfyUI"})


def workflow_chunks(hidden: Any) -> dict[str, Any]:
    """The texts that ComfyUI writes into every file: `prompt`, `workflow`, and what other nodes added."""
    chunks = dict(hidden.extra_pnginfo or {})
    return {"prompt": hidden.prompt, **chunks} if hidden.prompt else chunks
