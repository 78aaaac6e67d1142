"""The extension's page in the host's Settings, and reading it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import PureWindowsPath
from typing import Any

import gradio as gr
import torch
from modules import shared

from ..core.files.names import why_no_file_name
from ..core.networks.devices import default_device
from . import host
from .folders import WEIGHTS_FOLDER
from .request import TITLE, scorer_name, scorer_titles

SECTION = ("image_reward", "ImageReward")

KEEP, TO_RAM, UNLOAD = "Keep on GPU", "Move to RAM", "Unload"
DROP, SUBFOLDER = "Drop", "Save to a subfolder"
AUTOMATIC = "Automatic"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEFAULT_REJECTED_FOLDER = "rejected"
ASK, USE, IGNORE = "Ask", "Use", "Do not use"
WRITTEN_SCORES: dict[Any, bool | None] = {ASK: None, USE: True, IGNORE: False}

DEFAULTS: dict[str, Any] = {
    "image_reward_scorer": TITLE,
    "image_reward_always": False,
    "image_reward_device": AUTOMATIC,
    "image_reward_dtype": AUTOMATIC,
    "image_reward_after": TO_RAM,
    WEIGHTS_FOLDER: "",
    "image_reward_decimals": 4,
    "image_reward_parts": False,
    "image_reward_aesthetic_pair": False,
    "image_reward_rejected": DROP,
    "image_reward_rejected_folder": DEFAULT_REJECTED_FOLDER,
    "image_reward_written": ASK,
}


def register() -> None:
    """Adds the page; called by the host's `on_ui_settings`."""

    def option(key: str, label: str, component: Any = None, arguments: Any = None, **more: Any) -> Any:
        info = shared.OptionInfo(DEFAULTS[key], label, component, arguments, section=SECTION, **more)
        shared.opts.add_option(key, info)
        return info

    scorers = host.guarded("list the scorers", dict)(lambda: {"choices": scorer_titles()})
    option("image_reward_scorer", "Default scorer", gr.Dropdown, scorers).needs_reload_ui()
    option("image_reward_always", "Score every image, whichever script is chosen").info(
        "with Prompt matrix, Loopback or no script too; nothing is filtered or sorted then. Tiles of SD upscale are left alone"
    )
    option("image_reward_device", "Device", gr.Radio, {"choices": [AUTOMATIC, "GPU", "CPU"]}).info(
        "Automatic takes the device that the WebUI generates on, and the CPU when that has no room"
    )
    option("image_reward_dtype", "Precision", gr.Radio, {"choices": [AUTOMATIC, *DTYPES]}).info(
        "Automatic: float16 on a GPU, float32 on the CPU"
    )
    option("image_reward_after", "After scoring", gr.Radio, {"choices": [KEEP, TO_RAM, UNLOAD]}).info(
        "what happens to the model when a generation ends"
    )
    if host.restricts_settings():  # else callers of the API could have files looked for anywhere
        option(WEIGHTS_FOLDER, "Folder of the weights", restrict_api=True).info(
            "also searched for ImageReward.pt and other scorers' files; empty: the usual places only"
        )
    option("image_reward_decimals", "Decimals of a score", gr.Slider, {"minimum": 1, "maximum": 6, "step": 1})
    option("image_reward_parts", "Also write what a Technical score is made of").info(
        "its sharpness, noise, contrast and so on; the scorers of a mixture are always written"
    )
    option("image_reward_aesthetic_pair", "Also write aesthetic_score when an aesthetic scorer ran").info(
        "image browsers read that key"
    )
    option("image_reward_rejected", "Files of rejected images", gr.Radio, {"choices": [DROP, SUBFOLDER]})
    option("image_reward_rejected_folder", "Subfolder of rejected images", restrict_api=True).info(
        "inside the folder that the images are saved to"
    )
    option("image_reward_written", "Scores in files", gr.Radio, {"choices": list(WRITTEN_SCORES)}).info(
        "whether the tab ImageReward shows pictures with the score that is in the file, instead of scoring them again"
    )


def get(key: str) -> Any:
    value = host.own_option(key)
    return DEFAULTS[key] if value is None else value


def default_scorer() -> str:
    """Name of the scorer the panel begins with; ImageReward if the chosen one no longer exists."""
    try:
        return scorer_name(get("image_reward_scorer"))
    except Exception:
        return scorer_name(None)


def device() -> torch.device:
    chosen = get("image_reward_device")
    if chosen == "CPU":
        return torch.device("cpu")
    if chosen == "GPU" and host.device().type == "cpu":
        return default_device()
    return host.device()


def dtype() -> torch.dtype | None:
    """None leaves it to the device."""
    return DTYPES.get(get("image_reward_dtype"))


def decimals() -> int:
    """1 to 6; 4 where somebody wrote something else into the host's config.json."""
    try:
        return min(6, max(1, int(get("image_reward_decimals"))))
    except (TypeError, ValueError, OverflowError):
        return int(DEFAULTS["image_reward_decimals"])


def rejected_subfolder() -> str | None:
    """Name of the folder for rejected files, None to drop them. A path that leads out of the images' folder is cut."""
    if get("image_reward_rejected") != SUBFOLDER:
        return None
    return _folder_name(str(get("image_reward_rejected_folder")))


def rejected_folders() -> set[str]:
    """Names of the folders in which rejected files lie, by the setting or by its default."""
    return {DEFAULT_REJECTED_FOLDER, _folder_name(str(get("image_reward_rejected_folder")))}


@lru_cache
def _folder_name(setting: str) -> str:
    """The last part of a path as any system writes it; the default, with a line in the log, for what names no folder."""
    path = PureWindowsPath(setting)
    name = path.name if path.name != ".." else ""
    reason = why_no_file_name(name)
    if not reason:
        return name
    if setting:
        host.log(
            f"the setting 'Subfolder of rejected images' is {setting!r}, which names no folder (it {reason}): rejected images "
            f"go to the subfolder '{DEFAULT_REJECTED_FOLDER}'. Write a name such as '{DEFAULT_REJECTED_FOLDER}' there."
        )
    return DEFAULT_REJECTED_FOLDER
