"""The gallery as a program of its own: one page on 127.0.0.1."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ImageRewardError, extra_needed
from ..scorers.loading import load_scorer
from ..scorers.registry import scorer_infos
from .addresses import Addresses, OwnAddressesOnly
from .album import Album, NewScorer
from .page import SCRIPT, ScoreFolder, build_page
from .trust import Trust

HOST = "127.0.0.1"


def serve(
    folders: Sequence[Path],
    *,
    port: int | None = None,
    open_browser: bool = True,
    block: bool = True,
    names: Collection[str] = (),
    on_open: Callable[[str], None] = lambda address: None,
) -> str:
    """Opens the gallery of these folders and returns its address. Nothing outside them is read or served.

    port: None takes the first free one from 7860 on. names: hosts by which a proxy offers it, besides this machine's own.
    block: returns only when the page is ended, with Ctrl+C. on_open: takes the address as soon as the page can be opened.
    """
    gr = _gradio()
    albums, trust = [Album.open(folder) for folder in folders], Trust()
    look = {"head": f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>"}
    # Gradio 6 takes the page's head when it is launched, earlier ones when it is built.
    late = "head" in inspect.signature(gr.Blocks.launch).parameters
    with gr.Blocks(title="ImageReward gallery", analytics_enabled=False, **({} if late else look)) as page:
        titles = [info.title for info in scorer_infos().values()]
        build_page(albums, titles, _score_with(albums, trust), trust=trust)
    options: dict[str, Any] = look if late else {}
    try:
        _, address, _ = page.launch(
            server_name=HOST,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            quiet=True,
            allowed_paths=[],
            blocked_paths=[str(album.root) for album in albums],  # pictures come inside the page, never as files
            prevent_thread_lock=True,
            app_kwargs={"middleware": [_middleware(names)]},
            **options,
        )
    except OSError as error:
        raise ImageRewardError(f"the page cannot be opened ({error}); choose another port with --port") from error
    on_open(str(address))
    if block:
        page.block_thread()
    return str(address)


def _score_with(albums: Sequence[Album], trust: Trust) -> ScoreFolder:
    def score(folder: Path, title: str) -> str:
        album = next(album for album in albums if album.root == folder)
        info = next((info for info in scorer_infos().values() if info.title == title), None)
        if info is None:
            raise ImageRewardError(f"{title} was no scorer of the catalogue; score with: imagereward curate {folder}")
        new = NewScorer(info.name, info.reads_prompt, lambda: load_scorer(info.name))
        return str(album.score(new, bool(trust.answer())))

    return score


def _middleware(names: Collection[str]) -> Any:
    from starlette.middleware import Middleware

    # Where Gradio is told its own address, as behind a proxy.
    root = urlsplit(os.environ.get("GRADIO_ROOT_PATH", "")).hostname
    return Middleware(OwnAddressesOnly, addresses=Addresses([*names, *([root] if root else [])]))


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise ImageRewardError(
            f"the gallery is a Gradio page and needs that package: {extra_needed('gallery')}"
        ) from error
    return gradio
