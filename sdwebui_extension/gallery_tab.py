"""The tab *ImageReward*: the gallery on the folders that the WebUI saves to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import torch
from modules.call_queue import wrap_queued_call

from ..core.curate.records import store_key
from ..core.files.console import counted
from ..core.gallery.addresses import Addresses
from ..core.gallery.album import Album
from ..core.gallery.page import build_page
from . import host
from .request import scorer_name, scorer_titles
from .service import service

_OPENED_BY = ("listen", "share", "ngrok", "server_name", "cors_allow_origins_regex", "cors_regex")


def tabs() -> list[tuple[Any, str, str]]:
    """What the host's `on_ui_tabs` asks for; no tab where nothing was ever saved."""
    albums = {album.root: album for album in map(Album.open, _output_folders())}
    if not albums:
        return []

    def score(folder: Path, title: str) -> str:
        return str(wrap_queued_call(_score)(albums[folder], scorer_name(title)))

    with gr.Blocks(analytics_enabled=False) as tab:
        build_page(list(albums.values()), scorer_titles(), score, _addresses())
    return [(tab, "ImageReward", "image_reward_gallery")]


def _addresses() -> Addresses | None:
    """The names that the tab answers to; None (all) where the host's options open it to other machines."""
    if any(map(host.flag, _OPENED_BY)):
        return None
    allowed = (host.flag("cors_allow_origins") or host.flag("cors_origins") or "").split(",")
    return Addresses([name for origin in allowed if (name := urlsplit(origin.strip()).hostname)])


def _output_folders() -> list[Path]:
    """Those of the settings that exist."""
    found = [Path(os.path.realpath(folder)) for folder in host.output_folders()]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def _score(album: Album, name: str) -> str:
    def advance(done: int, found: int) -> None:
        if host.interrupted():
            raise InterruptedError
        host.say(f"ImageReward: {done} of {counted(found, 'picture')}")

    try:
        # Forge and reForge may call this under inference mode; what is loaded there could not be moved later.
        with torch.inference_mode(False), torch.no_grad():
            scorer = service.ready(name)
            summary = album.score([(store_key(name, scorer), scorer)], advance)
    except InterruptedError:
        return "stopped; the next time goes on from here"
    finally:
        service.settle()
    host.log(f"{album.root}: {summary}")
    return str(summary)
