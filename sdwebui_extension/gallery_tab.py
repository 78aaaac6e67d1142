"""The tab *ImageReward*: the gallery on the folders that the WebUI saves to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import torch
from modules.call_queue import wrap_queued_call

from ..core.files.console import counted
from ..core.gallery.addresses import Addresses
from ..core.gallery.album import Album, NewScorer
from ..core.gallery.page import build_page
from ..core.gallery.trust import Trust
from . import host, settings
from .request import members, scorer_name, scorer_titles
from .service import service

_OPENED_BY = ("listen", "share", "ngrok", "server_name", "cors_allow_origins_regex", "cors_regex")


def tabs() -> list[tuple[Any, str, str]]:
    """What the host's `on_ui_tabs` asks for; no tab where the host names no folder of outputs."""
    albums = {folder: Album.open(folder, settings.rejected_folders) for folder in _output_folders()}
    if not albums:
        return []

    trust = SavedTrust()

    def score(folder: Path, title: str) -> str:
        return str(wrap_queued_call(_score)(albums[folder], scorer_name(title), trust.answer() is True))

    with gr.Blocks(analytics_enabled=False) as tab:
        build_page(
            list(albums.values()), scorer_titles(), score, _addresses(), trust=trust, apart="Rejected images only"
        )
    return [(tab, "ImageReward", "image_reward_gallery")]


class SavedTrust(Trust):
    """The answer is a setting."""

    later = "Settings > ImageReward keeps the answer."

    def answer(self) -> bool | None:
        saved = settings.WRITTEN_SCORES.get(settings.get("image_reward_written"))
        return super().answer() if saved is None else saved

    def remember(self, answer: bool) -> None:
        super().remember(answer)  # the host may refuse to save it
        host.set_own_option("image_reward_written", settings.USE if answer else settings.IGNORE)


def _addresses() -> Addresses | None:
    """The names that the tab answers to; None (all) where the host's options open it to other machines."""
    if any(map(host.flag, _OPENED_BY)):
        return None
    allowed = (host.flag("cors_allow_origins") or host.flag("cors_origins") or "").split(",")
    return Addresses([name for origin in allowed if (name := urlsplit(origin.strip()).hostname)])


def _output_folders() -> list[Path]:
    """Those of the settings, whether they exist yet or not."""
    return list(dict.fromkeys(Path(os.path.realpath(folder)) for folder in host.output_folders()))


def _score(album: Album, name: str, trust: bool) -> str:
    def advance(done: int, found: int) -> None:
        if host.interrupted():
            raise InterruptedError
        host.say(f"ImageReward: {done} of {counted(found, 'picture')}")

    reads_prompt = any(info.reads_prompt for info in members(name))
    try:
        # The host may call this under inference mode; what is loaded there could not be moved later.
        with torch.inference_mode(False), torch.no_grad():
            new = NewScorer(name, reads_prompt, lambda: service.ready(name))
            summary = album.score(new, trust, advance)
    except InterruptedError:
        return "stopped; the next time goes on from here"
    finally:
        service.settle()
    host.log(f"{album.root}: {summary}")
    return str(summary)
