"""Paths of LoRA files in `models/loras`, which the Load LoRA node lists."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ...core.errors import ImageRewardError
from ...core.files.names import why_no_file_name

NONE = "[None]"


def lora_files() -> list[str]:
    return [NONE, *folder_paths.get_filename_list("loras")]


def lora_path(name: str) -> str:
    """The file of a name in the list; "" for none."""
    if name == NONE:
        return ""
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise ImageRewardError(f"No LoRA '{name}' in models/loras.")
    return str(path)


def free_path(name: str) -> Path:
    """`models/loras/<name>.safetensors`, with a number behind it if that is taken. Subfolders are allowed."""
    stem = name.strip().removesuffix(".safetensors")
    if any(why_no_file_name(part) for part in stem.split("/")):
        raise ImageRewardError(
            f"'{name}' is no name for a file below models/loras: use letters, digits, spaces, - and _ (and / for a folder)."
        )
    folder = Path(folder_paths.get_folder_paths("loras")[0])
    path, count = folder / f"{stem}.safetensors", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}_{count}.safetensors"
    return path


def shown_name(path: Path) -> str:
    """As the Load LoRA node lists it."""
    return os.path.relpath(path, folder_paths.get_folder_paths("loras")[0])
