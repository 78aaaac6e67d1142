"""Images to files, with ComfyUI's own texts and the score on an A1111 parameters line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui
from torch import Tensor

from ..core.infotext.scores import set_scores
from ..core.pictures.saving import save_image
from .pictures import to_picture
from .scores import Scores

ENDINGS = {"PNG": "png", "JPEG": "jpg", "WebP": "webp"}
SCORE_MARK = "%score%"


@dataclass(frozen=True)
class FileSettings:
    prefix: str  # may hold %score% beside ComfyUI's own marks
    ending: str
    quality: int
    components: bool = True  # write the components of a mixture beside its score


def save(pixels: Tensor, scores: Scores, i: int, settings: FileSettings, chunks: Mapping[str, Any]) -> ui.SavedResult:
    """Writes image `i` (3, H, W) below ComfyUI's output folder."""
    height, width = pixels.shape[1:]
    prefix = settings.prefix.replace(SCORE_MARK, f"{scores.total[i]:.4f}")
    folder, stem, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height
    )
    file = _free_name(Path(folder), stem, counter, settings.ending)
    texts: dict[str, Any] = {"parameters": "", "chunks": {}}
    if not args.disable_metadata:
        others = dict(chunks)
        base = others.pop("parameters", None)  # an A1111 text that a node of another pack put there
        texts = {"parameters": parameters(scores, i, (width, height), settings.components, base), "chunks": others}
    save_image(to_picture(pixels), Path(folder) / file, quality=settings.quality, **texts)
    return ui.SavedResult(file, subfolder, io.FolderType.output)


def _free_name(folder: Path, stem: str, counter: int, ending: str) -> str:
    """The host's counter stays at 1 for a prefix that is a bare folder, and must not lead to an older image."""
    while (folder / (name := f"{stem}_{counter:05}_.{ending}")).exists():
        counter += 1
    return name


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
