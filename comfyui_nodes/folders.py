"""`models/ImageReward`: where ComfyUI users keep checkpoints, and where the rest of the program looks for them too."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..core.weights.locate import add_folder

FOLDER_NAME = "ImageReward"
CHECKPOINT_ENDINGS = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}


def register() -> None:
    """Announces the folder to ComfyUI (merged with extra_model_paths.yaml) and its paths to the weights catalogue."""
    folder_paths.add_model_folder_path(FOLDER_NAME, os.path.join(folder_paths.models_dir, FOLDER_NAME))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER_NAME]
    folder_paths.folder_names_and_paths[FOLDER_NAME] = (paths, CHECKPOINT_ENDINGS)
    for path in reversed(paths):  # the last one added is searched first, and takes downloads
        add_folder(path)


def checkpoint_files() -> list[str]:
    return list(folder_paths.get_filename_list(FOLDER_NAME))


def checkpoint_path(name: str) -> Path | None:
    """The file called `name` in one of the folders, None if there is none."""
    path = folder_paths.get_full_path(FOLDER_NAME, name)
    return None if path is None else Path(path)
