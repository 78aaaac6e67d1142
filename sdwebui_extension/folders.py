"""Where people of a WebUI put weights and mixture files: models/ImageReward, and the folder that the settings name."""

from __future__ import annotations

from pathlib import Path

from modules import paths

from ..core.scorers import mixture
from ..core.weights.locate import add_folder, search_folders
from . import host

WEIGHTS_FOLDER = "image_reward_weights_folder"  # its key in the settings


def add_weights_folders() -> None:
    """Lets the scorers' files be found there."""
    add_folder(Path(paths.models_path) / "ImageReward")
    chosen = host.own_option(WEIGHTS_FOLDER) if host.restricts_settings() else None
    if chosen:
        add_folder(Path(chosen))


def mixture_files() -> dict[str, Path]:
    """The mixture files there by name; of two of the same name the one that is found first."""
    add_weights_folders()
    found: dict[str, Path] = {}
    for path in mixture.mixture_files(search_folders()):
        found.setdefault(path.name, path)
    return found
