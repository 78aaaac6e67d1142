"""What the user sees under *Script > ImageReward* and in the accordion *ImageReward*."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any

import gradio as gr
from modules.call_queue import wrap_queued_call

from ..core.errors import ImageRewardError
from ..core.scorers.base import ScorerInfo
from ..core.scorers.registry import known_titles
from ..core.weights.locate import find_weight
from . import request, settings
from .folders import add_weights_folders
from .service import service
from .typical import typical


class Panel:
    """The components of one tab; made inside the host's layout, in the order of `Request`'s fields.

    Answers of the server may come in any order, so the first letters of a name may be answered last. What is shown
    therefore says what it was made for (`shown`), and each time it changes the panel asks again with what is there now: the
    last word is about the last entry.

    Args:
        elem_id: makes the id of a component.
        repeats: with *Keep generating until N pass*.
    """

    def __init__(self, elem_id: Callable[[str], str], *, repeats: bool) -> None:
        default = settings.default_scorer()
        self.scorer = gr.Dropdown(
            request.scorer_titles(),
            value=request.scorer_title(default),
            label="Scorer",
            info="A mixture may be typed in: mix(imagereward=1, technical=0.1)",
            allow_custom_value=True,
            elem_id=elem_id("scorer"),
        )
        with gr.Row():
            with gr.Column(min_width=160):
                self.filter = gr.Checkbox(
                    False, label="Filter out images below the threshold", elem_id=elem_id("filter")
                )
                self.sort = gr.Checkbox(False, label="Sort by score, best first", elem_id=elem_id("sort"))
                self.plain_prompt = gr.Checkbox(
                    True, label="Ignore prompt syntax when scoring", elem_id=elem_id("plain_prompt")
                )
            with gr.Column(min_width=160):
                self.threshold = gr.Number(
                    typical(default).threshold,
                    label="Threshold",
                    interactive=False,
                    elem_id=elem_id("threshold"),
                    elem_classes=["ir-threshold"],
                )
                self.keep_best = gr.Slider(
                    0, 64, value=0, step=1, label="Keep the best N", info="0 keeps all", elem_id=elem_id("keep_best")
                )
        self.repeat: list[Any] = self._make_repeat(elem_id) if repeats else []
        with gr.Row():
            self.hint = gr.HTML(elem_id=elem_id("hint"))
            self.unload = gr.Button(
                "Unload model", size="sm", scale=0, min_width=120, elem_id=elem_id("unload"), elem_classes=["ir-unload"]
            )
        self.shown = gr.Textbox(self._now, visible=False)
        self.hint.value = hint_html(self.scorer.value)
        of_settings: tuple[Any, ...] = (self.scorer, self.threshold)
        for component in of_settings:
            component.do_not_save_to_config = True  # the settings name the default scorer, and the threshold follows it
        self._listen()

    def _make_repeat(self, elem_id: Callable[[str], str]) -> list[Any]:
        with gr.Row():
            until = gr.Slider(
                0,
                64,
                value=0,
                step=1,
                label="Keep generating until N pass",
                info="With the next seeds, until N images reach the threshold. 0 is off",
                elem_id=elem_id("until"),
            )
            tries = gr.Slider(
                1,
                32,
                value=request.DEFAULT_TRIES,
                step=1,
                label="Maximum tries",
                info="Each makes batch count x batch size images",
                elem_id=elem_id("tries"),
            )
        return [until, tries]

    @property
    def inputs(self) -> list[Any]:
        return [
            self.scorer,
            self.filter,
            self.threshold,
            self.sort,
            self.keep_best,
            self.plain_prompt,
            *self.repeat,
        ]

    # -- what it says ----------------------------------------------------------------------------------------------

    @property
    def _asked(self) -> list[Any]:
        return [self.shown, self.threshold, self.scorer, self.filter, *self.repeat[:1]]

    @property
    def _answered(self) -> list[Any]:
        return [self.shown, self.threshold, self.hint]

    def _listen(self) -> None:
        for component in (self.shown, self.scorer, self.filter, *self.repeat[:1]):
            self.refresh_after(component)
        self.unload.click(fn=_unload, inputs=self._asked, outputs=self._answered)

    def refresh_after(self, component: Any) -> None:
        component.change(fn=look, inputs=self._asked, outputs=self._answered, show_progress=False)

    def refresh_after_generation(self, on_component: Any) -> None:
        """Of the host's hidden text about the gallery, which changes then.

        A text field, since Forge's Gradio tells of a change of an HTML component, that is of the text under the gallery,
        each time something else is drawn: an answer would ask again, without end.
        """
        self.refresh_after(on_component.component)

    def _now(self) -> str:
        """What a page that is opened should show: the host may have put its own defaults into the components since."""
        return _key(self.scorer.value, self.filter.value, *(component.value for component in self.repeat[:1]))

    # -- Send to txt2img -------------------------------------------------------------------------------------------

    def infotext_fields(self, ours: Callable[[dict[str, Any]], bool]) -> list[tuple[Any, Any]]:
        """How *Send to txt2img* fills the panel from the parameters of a picture for which `ours` holds."""

        def when_ours(read: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
            def paste(found: dict[str, Any]) -> Any:
                try:
                    return read(found) if ours(found) else None  # which leaves the component as it is
                except ValueError:
                    return None

            return paste

        readers = [
            (self.scorer, lambda found: found[request.KEY_SCORER]),
            (self.filter, lambda found: request.KEY_THRESHOLD in found),
            (self.threshold, _threshold),
            (self.sort, lambda found: request.KEY_SORT in found),
            (self.keep_best, lambda found: int(found.get(request.KEY_KEEP_BEST, 0))),
            (self.plain_prompt, lambda found: request.KEY_RAW_PROMPT not in found),
            (self.shown, lambda found: _key(found[request.KEY_SCORER], False)),
        ]
        if self.repeat:
            until, tries = self.repeat
            readers += [(until, lambda found: _until(found)[0]), (tries, lambda found: _until(found)[1])]
        return [(component, when_ours(read)) for component, read in readers]


def is_of_script(found: dict[str, Any]) -> bool:
    """Whether a picture was made with *Script > ImageReward*."""
    return request.KEY_SCORER in found and found.get("Script") == request.TITLE


def is_of_accordion(found: dict[str, Any]) -> bool:
    return request.KEY_SCORER in found and found.get("Script") != request.TITLE


def _threshold(found: dict[str, Any]) -> float | None:
    """The typical score of the picture's scorer where it was made without a threshold."""
    if request.KEY_THRESHOLD in found:
        return float(found[request.KEY_THRESHOLD])
    return _suggested(found[request.KEY_SCORER])


def _until(found: dict[str, Any]) -> tuple[int, int]:
    """ "3 in 8" -> (3, 8)"""
    images, _, tries = str(found.get(request.KEY_UNTIL, "")).partition(" in ")
    return int(images or 0), int(tries or request.DEFAULT_TRIES)


# -- answers -------------------------------------------------------------------------------------------------------


def look(shown: str, threshold: Any, scorer: str, filter: bool, until: Any = 0) -> list[Any]:
    """What the panel shows for its entries: the new `shown`, the threshold, the hint.

    The threshold follows the scorer unless it was changed by hand.
    """
    new: dict[str, Any] = {"interactive": bool(filter or until)}
    suggested = _suggested(scorer)
    known = json.loads(shown)[-1] if shown else None
    if suggested is not None and known != scorer:
        if threshold in (None, _suggested(known)):
            new["value"] = suggested
        known = scorer
    return [_key(scorer, filter, until, known), gr.update(**new), hint_html(scorer)]


def _key(scorer: str, filter: Any, until: Any = 0, known: str | None = None) -> str:
    """All that the answer depends on. known: the last scorer that was no half-typed name; that of the threshold."""
    return json.dumps([scorer, bool(filter or until), service.state(), known or scorer])


def _suggested(scorer: Any) -> float | None:
    """None for a name that is still being typed."""
    try:
        return typical(request.scorer_name(scorer)).threshold
    except ImageRewardError:
        return None


def hint_html(title: str) -> str:
    """What the scorer measures and its scores usually are, what the next run loads, and where the model is."""
    try:
        name = request.scorer_name(title)
        infos = request.members(name)
        text = " ".join([_measures(infos), typical(name).help(), _model(name, infos)])
    except ImageRewardError as error:  # a name that is still being typed
        text = str(error)
    titles = html.escape("|".join(known_titles()), quote=True)
    return f"<p data-ir-titles='{titles}'><small>{html.escape(text)}</small></p>"


def _measures(infos: list[ScorerInfo]) -> str:
    return infos[0].measures if len(infos) == 1 else "The weighted sum of these scorers."


def _model(name: str, infos: list[ScorerInfo]) -> str:
    """Where the model is, or what the next run will do."""
    files = [info.weights[0] for info in infos if info.weights]
    if not files:
        return "It needs no model file."
    if service.holds(name):
        return f"Loaded: {service.state()}."
    add_weights_folders()
    missing = [file for file in files if find_weight(file) is None]
    does = f"downloads (from {', '.join(file.repo for file in missing)}) and loads" if missing else "loads"
    return f"Not loaded: the next run {does} the model, {sum(file.size for file in files) / 1e9:.1f} GB."


def _unload(*asked: Any) -> list[Any]:
    """Waits for a generation that is going on: it holds the same lock."""
    wrap_queued_call(service.unload)()
    return look(*asked)
