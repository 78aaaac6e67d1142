"""What the user sees under *Script > ImageReward*."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr
from modules.call_queue import wrap_queued_call

from ..core.errors import ImageRewardError
from ..core.scorers.base import ScorerInfo
from ..core.weights.locate import find_weight
from . import request, settings
from .folders import add_weights_folders
from .service import service

THRESHOLD_TIP = (
    "ImageReward is roughly standard normal: half of all images score above 0, one in six above 1, one in forty "
    "above 2."
)


class Panel:
    """The components of one tab; made inside the host's layout, in the order of `Request`'s fields."""

    def __init__(self, elem_id: Callable[[str], str]) -> None:
        titles = request.scorer_titles()
        default = request.scorer_title(settings.default_scorer())
        self.scorer = gr.Dropdown(
            titles,
            value=default,
            label="Scorer",
            allow_custom_value=True,  # mix(imagereward=1, technical=0.1)
            elem_id=elem_id("scorer"),
        )
        with gr.Row():
            with gr.Column():
                self.filter = gr.Checkbox(False, label="Filter out images with low scores", elem_id=elem_id("filter"))
                self.sort = gr.Checkbox(False, label="Sort by score", elem_id=elem_id("sort"))
                self.plain_prompt = gr.Checkbox(
                    True, label="Score the prompt without its syntax", elem_id=elem_id("plain_prompt")
                )
            self.threshold = gr.Number(0.0, label="Score threshold", info=THRESHOLD_TIP, elem_id=elem_id("threshold"))
        self.keep_best = gr.Slider(
            0, 64, value=0, step=1, label="Keep the best N", info="0 keeps all", elem_id=elem_id("keep_best")
        )
        with gr.Row():
            self.until = gr.Slider(
                0,
                64,
                value=0,
                step=1,
                label="Keep generating until N images pass",
                info="the score threshold; 0 is off",
                elem_id=elem_id("until"),
            )
            self.tries = gr.Slider(
                1,
                32,
                value=request.DEFAULT_TRIES,
                step=1,
                label="Maximum tries",
                info="each makes batch count x batch size images",
                elem_id=elem_id("tries"),
            )
        with gr.Row():
            self.unload = gr.Button("Unload model", elem_id=elem_id("unload"))
            self.state = gr.HTML(state_html, elem_id=elem_id("state"))
        self.hint = gr.HTML(hint_html(default), elem_id=elem_id("hint"))
        self.unload.click(fn=_unload, inputs=[], outputs=[self.state])
        self.scorer.change(fn=hint_html, inputs=[self.scorer], outputs=[self.hint], show_progress=False)

    @property
    def inputs(self) -> list[Any]:
        return [
            self.scorer,
            self.filter,
            self.threshold,
            self.sort,
            self.keep_best,
            self.plain_prompt,
            self.until,
            self.tries,
        ]

    def infotext_fields(self) -> list[tuple[Any, Any]]:
        """How *Send to txt2img* fills the panel from the parameters of a picture that this script made."""
        return [
            (self.scorer, request.KEY_SCORER),
            (self.filter, _when_ours(lambda found: request.KEY_THRESHOLD in found)),
            (self.threshold, request.KEY_THRESHOLD),
            (self.sort, _when_ours(lambda found: request.KEY_SORT in found)),
            (self.keep_best, _when_ours(lambda found: int(found.get(request.KEY_KEEP_BEST, 0)))),
            (self.plain_prompt, _when_ours(lambda found: request.KEY_RAW_PROMPT not in found)),
            (self.until, _when_ours(lambda found: _until(found)[0])),
            (self.tries, _when_ours(lambda found: _until(found)[1])),
        ]

    def refresh_after(self, on_component: Any) -> None:
        """Shows the model's new state whenever the host's hidden text about the gallery changes: after a generation.

        A text field, since Forge's Gradio tells of a change of an HTML component, that is of the text under the gallery,
        each time something else is drawn: an answer would ask again, without end.
        """
        on_component.component.change(fn=state_html, inputs=[], outputs=[self.state], show_progress=False)


def _when_ours(read: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """A paste function that leaves the component as it is when the picture was not made by this script."""

    def paste(found: dict[str, Any]) -> Any:
        try:
            return read(found) if request.KEY_SCORER in found else None
        except ValueError:
            return None

    return paste


def _until(found: dict[str, Any]) -> tuple[int, int]:
    """ "3 in 8" -> (3, 8)"""
    images, _, tries = str(found.get(request.KEY_UNTIL, "")).partition(" in ")
    return int(images or 0), int(tries or request.DEFAULT_TRIES)


def state_html() -> str:
    return f"<p style='line-height: 2.5em; margin-left: 1em'>Model: {html.escape(service.state())}</p>"


def hint_html(title: str) -> str:
    """What the first run will do, and how large the model is."""
    try:
        text = _hint(request.members(request.scorer_name(title)))
    except ImageRewardError as error:  # a name that is still being typed
        text = str(error)
    return f"<p><small>{html.escape(text)}</small></p>"


def _hint(infos: list[ScorerInfo]) -> str:
    files = [info.weights[0] for info in infos if info.weights]
    if not files:
        return f"{infos[0].title} needs no weights; nothing is loaded before the first run."
    add_weights_folders()
    missing = [file for file in files if find_weight(file) is None]
    does = f"downloads (from {', '.join(file.repo for file in missing)}) and loads" if missing else "loads"
    names = " and ".join(info.title for info in infos if info.weights)
    size = sum(file.size for file in files) / 1e9
    return f"The first run {does} the model of {names}, {size:.1f} GB; nothing is loaded before."


def _unload() -> str:
    """Waits for a generation that is going on: it holds the same lock."""
    wrap_queued_call(service.unload)()
    return state_html()
