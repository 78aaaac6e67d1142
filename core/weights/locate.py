"""Where weights lie: the folders people already have first, then the Hub's cache, then our own folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .catalogue import WeightFile

_host_folders: list[Path] = []


def add_folder(folder: str | os.PathLike[str]) -> None:
    """A host's model folder: searched first, and where downloads go from now on."""
    path = Path(folder)
    if path in _host_folders:
        _host_folders.remove(path)
    _host_folders.insert(0, path)


def host_folders() -> tuple[Path, ...]:
    """What `add_folder` was told, the last first."""
    return tuple(_host_folders)


def add_host_folders(folders: Sequence[Path]) -> None:
    """Another process's `host_folders`: searched after those of this one."""
    _host_folders.extend(folder for folder in folders if folder not in _host_folders)


def download_folder() -> Path:
    """Where a download is kept: a host's folder, IMAGEREWARD_HOME, or `imagereward` in Hugging Face's home."""
    if _host_folders:
        return _host_folders[0]
    if os.environ.get("IMAGEREWARD_HOME"):
        return Path(os.environ["IMAGEREWARD_HOME"]).expanduser()
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "imagereward"


def search_folders() -> list[Path]:
    """Every folder that is looked into, in order."""
    own = [Path(os.environ["IMAGEREWARD_HOME"]).expanduser()] if os.environ.get("IMAGEREWARD_HOME") else []
    packages = [Path("~/.cache").expanduser() / name for name in ("ImageReward", "clip", "hpsv2")]  # of theirs
    folders = [*_host_folders, *own, download_folder(), *packages]
    return list(dict.fromkeys(folders))


def find_weight(weight: WeightFile) -> Path | None:
    """The file on this machine, or None. Never goes to the network."""
    for path in _candidates(weight):
        if path.is_file():
            return path
    return _in_hub_cache(weight)


def _candidates(weight: WeightFile) -> Iterator[Path]:
    for folder in search_folders():
        yield folder / weight.name
        safetensors = Path(weight.name).with_suffix(".safetensors")
        if safetensors.name != weight.name and not weight.name.endswith(".txt"):
            yield folder / safetensors  # what `imagereward convert` made of it
        for name in weight.also:
            yield folder / name
        nested = in_a_folder_of_its_own(weight, folder)
        if nested is not None:
            yield nested


def in_a_folder_of_its_own(weight: WeightFile, folder: Path) -> Path | None:
    """clip-vit-large-patch14/model.safetensors: where a file is found under the name that it has on the Hub.

    None for files whose own name says enough, or that are not on the Hub.
    """
    if not weight.repo or not weight.save_as:
        return None
    return folder / weight.repo.rsplit("/", 1)[-1] / weight.file.rsplit("/", 1)[-1]


def _in_hub_cache(weight: WeightFile) -> Path | None:
    if not weight.repo:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(weight.repo, weight.file)
    return Path(found) if isinstance(found, str) else None
