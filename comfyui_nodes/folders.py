"""`models/ImageReward`: where ComfyUI users keep checkpoints, and where the rest of the program looks for them too."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..core.scorers.mixture import FILE_SUFFIXES, looks_like_mixture
from ..core.weights.locate import add_folder

FOLDER_NAME = "ImageReward"
ENDINGS = {".pt", ".pth", ".bin", ".ckpt", ".safetensors", *FILE_SUFFIXES}


def register() -> None:
    """Announces the folder to ComfyUI (merged with extra_model_paths.yaml) and its paths to the weights catalogue."""
    folder_paths.add_model_folder_path(FOLDER_NAME, os.path.join(folder_paths.models_dir, FOLDER_NAME))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER_NAME]
    folder_paths.folder_names_and_paths[FOLDER_NAME] = (paths, ENDINGS)
    for path in reversed(paths):  # the last one added is searched first, and takes downloads
        add_folder(path)


def model_files() -> list[str]:
    """The checkpoints and mixture files in the folders; not the vocabularies beside them, which are JSON too."""
    names = folder_paths.get_filename_list(FOLDER_NAME)
    return [name for name in names if not name.lower().endswith(FILE_SUFFIXES) or _is_mixture(name)]


def _is_mixture(name: str) -> bool:
    path = model_path(name)
    return path is not None and looks_like_mixture(path)


def model_path(name: str) -> Path | None:
    """The file called `name` in one of the folders, None if there is none."""
    path = folder_paths.get_full_path(FOLDER_NAME, name)
    return None if path is None else Path(path)
