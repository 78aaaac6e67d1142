"""Folders below ComfyUI's own, by names that may come from a stranger's workflow: nothing outside is read."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from ..core.errors import ImageRewardError
from ..core.files.names import is_device_name


def folder_below(top: str | os.PathLike[str], name: Any) -> Path | None:
    """The folder called `name` in `top`, as a real path; None if there is none, or if it lies outside of `top`."""
    if not isinstance(name, str) or not is_plain(PurePath(name)):
        return None
    try:
        place = os.path.realpath(os.path.join(top, name))
    except ValueError:  # a zero character, or half of a surrogate pair
        return None
    return Path(place) if os.path.isdir(place) and _is_below(place, top) else None


def files_below(top: str | os.PathLike[str], folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """The wanted files of a folder that `folder_below` found, by name, but for links to files outside of `top`."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise ImageRewardError(
            f"Cannot list the folder {folder}: {error.strerror or error}. Allow ComfyUI to read it, or choose another one."
        ) from error
    return [file for file in found if wanted(file) and not _leads_out(file, top)]


def is_plain(name: PurePath) -> bool:
    """Whether it goes down alone: no drive, no root, no `..`, and on Windows no device such as NUL."""
    if name.anchor or ".." in name.parts:
        return False
    return not isinstance(name, PureWindowsPath) or not any(is_device_name(part) for part in name.parts)


def _leads_out(file: Path, top: str | os.PathLike[str]) -> bool:
    if not file.is_symlink() or _is_below(os.path.realpath(file), top):
        return False
    logging.warning("ImageReward: left out %s, a link to a file outside of %s", file, top)
    return True


def _is_below(real: str, top: str | os.PathLike[str]) -> bool:
    return Path(real).is_relative_to(os.path.realpath(top))
