"""The prompts of a run: typed, wired, or from a file in ComfyUI's input folder."""

from __future__ import annotations

import os
from collections.abc import Sequence

import folder_paths

from ...core.errors import ImageRewardError
from ...core.files.rows import PROMPT_FILES
from ...core.refl.data import read_prompts

NO_FILE = "[None]"


def prompt_files() -> list[str]:
    folder = folder_paths.get_input_directory()
    found = (
        sorted(name for name in os.listdir(folder) if name.lower().endswith(PROMPT_FILES))
        if os.path.isdir(folder)
        else []
    )
    return [NO_FILE, *found]


def prompt_file_path(name: str) -> str | None:
    if name == NO_FILE:
        return None
    if name not in prompt_files():
        raise ImageRewardError(
            f"No file '{name}' with prompts in ComfyUI's input folder. There are: {prompt_files()[1:]}."
        )
    return os.path.join(folder_paths.get_input_directory(), name)


def expect_texts(texts: Sequence[str]) -> list[str]:
    """Whole texts, line breaks and all; an empty one is refused."""
    if not texts or not all(text.strip() for text in texts):
        raise ImageRewardError("No prompt: write into 'prompt' what the picture should show, or connect a text.")
    return list(texts)


def gather(texts: Sequence[str], file: str = NO_FILE) -> tuple[str, ...]:
    """Every line of every text is a prompt, empty lines are none; then the file's."""
    prompts = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    path = prompt_file_path(file)
    if path is not None:
        prompts += read_prompts(path)
    if not prompts:
        raise ImageRewardError(
            "No prompts: write one a line into 'prompts', connect a list of texts, or choose a 'prompts_file' from "
            "ComfyUI's input folder."
        )
    return tuple(prompts)
