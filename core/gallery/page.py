"""The gallery as a Gradio page; of Gradio only what 3.41, 4 and later ones have in common, as WebUIs ship all of these."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError
from ..files.console import counted
from .addresses import Addresses
from .album import GRID, VIEWS, Album, Choice
from .cards import detail_html, note_html, page_html
from .trust import Trust

SCRIPT = Path(__file__).resolve().parents[2] / "javascript" / "imagereward_gallery.js"
ScoreFolder = Callable[[Path, str], str]  # (folder, title of a scorer) -> a line that says what came of it
_MOST_LINES = 50
ACTIONS = {
    "Write scores into the files": "label",
    "Copy the best N to a folder": "copy",
    "Move what scores less than N to a folder": "move",
    "Rename by template": "rename",
    "Move what scores less than N to the trash": "trash",
    "Undo the last move or renaming": "undo",
}


def build_page(
    albums: Sequence[Album],
    scorers: Sequence[str],
    score: ScoreFolder,
    addresses: Addresses | None = None,
    *,
    trust: Trust,
    apart: str = "",
) -> None:
    """Puts the gallery into the Gradio layout that is open. The page is empty until its script asks.

    albums: the folders to choose from. scorers: titles to choose from when scoring. score: does that. addresses: given where
    the server itself lets every request in, as WebUIs do: the page is answered under these alone. trust: whether scores in
    files count. apart: what the pictures in the albums' `apart` folders are called, "" where there are none.
    """
    import gradio as gr

    def own(answer: Callable[..., Any]) -> Callable[..., Any]:
        return answer if addresses is None else _guarded(answer, addresses)

    by_name = _named(albums)
    names = list(by_name)
    shown_first = next((name for name, album in by_name.items() if album.root.is_dir()), names[0])
    first = by_name[shown_first]
    low, high = first.bounds("")
    titles = [record.title for record in first.scorers()] or list(scorers)  # the first one is shown
    with gr.Row():
        folder = gr.Dropdown(
            names, value=shown_first, label="Folder", visible=len(names) > 1, elem_id="ir_gallery_folder"
        )
        scorer = gr.Dropdown(sorted({*titles, *scorers}), value=titles[0], label="Scorer", elem_id="ir_gallery_scorer")
        search = gr.Textbox("", label="Search", placeholder="name, prompt, checkpoint", elem_id="ir_gallery_search")
        least = gr.Slider(**_range(low, high), step=0.01, label="At least", elem_id="ir_gallery_least")
    with gr.Row(equal_height=False):
        view = gr.Radio(list(VIEWS), value=GRID, label="View", elem_id="ir_gallery_view")
        rejected = gr.Checkbox(False, label=apart, visible=bool(apart), elem_id="ir_gallery_apart")
        page = gr.Number(1, label="Page", precision=0, elem_id="ir_gallery_page")
        previous = gr.Button("Previous", elem_id="ir_gallery_previous")
        following = gr.Button("Next", elem_id="ir_gallery_next")
        scoring = gr.Button("Score new pictures", elem_id="ir_gallery_score")
    wire = gr.Textbox("", label="events", elem_id="ir_gallery_wire", elem_classes=["ir-wire"])
    grid = gr.HTML("", elem_id="ir_gallery_grid")
    status = gr.HTML("", elem_id="ir_gallery_status")
    detail = gr.HTML("", elem_id="ir_gallery_detail")
    with gr.Accordion("Actions", open=False):
        action = gr.Dropdown(list(ACTIONS), value=next(iter(ACTIONS)), label="Action", elem_id="ir_gallery_action")
        with gr.Row():
            number = gr.Number(10, label="N")
            text = gr.Textbox(
                "", label="Folder below this one, or template", placeholder="best, or {score:+.2f}_{name}"
            )
            dry = gr.Checkbox(True, label="Try out: only say what would be done", elem_id="ir_gallery_dry")
        with gr.Row():
            apply = gr.Button("Apply", elem_id="ir_gallery_apply")
            export = gr.Button("Export picks as preference pairs", elem_id="ir_gallery_export")

    controls = [folder, scorer, search, least, rejected, view, page]

    def chosen(name: str, *values: Any) -> tuple[Album, Choice]:
        title, words, limit, aside, kind, number_of_page = values
        # A number field that is being typed into, or was emptied, has no value.
        lowest = -math.inf if limit is None else limit
        return by_name[name], Choice(title, words or "", lowest, kind, int(number_of_page or 1), bool(aside))

    def shown(album: Album, choice: Choice) -> str:
        return page_html(album, choice, trust)

    def refresh(*values: Any) -> str:
        return shown(*chosen(*values))

    def turn(by: int) -> Callable[..., tuple[int, str]]:
        def turned(*values: Any) -> tuple[int, str]:
            album, choice = chosen(*values[:-1], int(values[-1] or 1) + by)
            return album.show(choice).page, shown(album, choice)

        return turned

    def restart(*values: Any) -> tuple[int, str]:
        album, choice = chosen(*values[:-1], 1)
        return 1, shown(album, choice)

    def rescale(name: str, title: str) -> Any:
        return gr.update(**_range(*by_name[name].bounds(title)))

    def enter(name: str, title: str) -> Any:
        """Another folder is chosen, or its pictures may have changed."""
        by_name[name].arrive(trust.answer())
        return rescale(name, title)

    def receive(message: str, *values: Any) -> tuple[Any, ...]:
        """An event of the page's script: the page is seen, search or threshold changed, the question is answered, or a
        picture is opened or picked, by its id.
        """
        event = _parsed(message)
        what = event.get("do")
        if what in ("trust", "distrust"):
            trust.remember(what == "trust")
        if what in ("seen", "trust", "distrust"):
            return arrived(event.get("all") is not False, *values)
        if what == "show":
            return *restart(*values), "", gr.update()
        album, choice = chosen(*values)
        identity = str(event.get("id", ""))
        record = album.scorer(choice.scorer)
        if what == "pick":
            album.pick(identity, choice)
        opened = detail_html(album, record, identity) if what == "open" and record is not None else ""
        return choice.page, shown(album, choice), opened, gr.update()

    def arrived(everything: bool, *values: Any) -> tuple[Any, ...]:
        """The folder as it is now. everything: the threshold left every picture in, and goes on to do so."""
        album, choice = chosen(*values)
        album.arrive(trust.answer())
        scale = _range(*album.bounds(choice.scorer))
        if not everything:
            scale["value"] = min(max(choice.least, scale["minimum"]), scale["maximum"])
        choice = replace(choice, least=scale["value"])
        return choice.page, shown(album, choice), gr.update(), gr.update(**scale)

    def apply_action(what: str, amount: float, words: str, only_say: bool, *values: Any) -> tuple[str, str]:
        album, choice = chosen(*values)
        try:
            outcome, lines = album.act(ACTIONS[what], choice, amount or 0, words or "", dry_run=only_say)
        except ImageRewardError as error:
            return shown(album, choice), note_html(str(error))
        lines = lines[:_MOST_LINES] + [f"{path}: {reason}" for path, reason in outcome.failed[:_MOST_LINES]]
        done = f"{counted(outcome.changed, 'file')} {'would be changed' if only_say else 'changed'}"
        return shown(album, choice), note_html(done, lines)

    def write_pairs(name: str) -> str:
        try:
            path, count = by_name[name].export()
        except (ImageRewardError, OSError) as error:
            return note_html(str(error))
        return note_html(f"{counted(count, 'pair')}: {path}")

    def score_new(name: str, title: str) -> str:
        try:
            return note_html(score(by_name[name].root, title))
        except ImageRewardError as error:
            return note_html(str(error))

    view.change(own(restart), controls, [page, grid])
    rejected.change(own(restart), controls, [page, grid])
    for control, answer in ((folder, enter), (scorer, rescale)):
        control.change(own(answer), [folder, scorer], [least]).then(own(restart), controls, [page, grid])
    page.submit(own(refresh), controls, [grid])
    previous.click(own(turn(-1)), controls, [page, grid])
    following.click(own(turn(+1)), controls, [page, grid])
    scored = scoring.click(own(score_new), [folder, scorer], [status])
    scored.then(own(rescale), [folder, scorer], [least]).then(own(restart), controls, [page, grid])
    wire.change(own(receive), [wire, *controls], [page, grid, detail, least])
    apply.click(own(apply_action), [action, number, text, dry, *controls], [grid, status])
    export.click(own(write_pairs), [folder], [status])


def _guarded(answer: Callable[..., Any], addresses: Addresses) -> Callable[..., Any]:
    """`answer` for requests to our own addresses; the others get an error."""
    import gradio as gr

    def guarded(request: Any, *values: Any) -> Any:
        headers = {str(name).lower(): str(value) for name, value in request.headers.items()}
        refusal = addresses.refusal(headers, changes=True)
        if refusal:
            raise gr.Error(refusal)
        return answer(*values)

    guarded.__annotations__["request"] = gr.Request  # by which Gradio knows that it is to hand over the request
    return guarded


def _named(albums: Sequence[Album]) -> dict[str, Album]:
    """The albums by the last two parts of their paths, which fit a dropdown, or by the whole paths if two are alike."""
    short = {"/".join(album.root.parts[-2:]): album for album in albums}
    return short if len(short) == len(albums) else {str(album.root): album for album in albums}


def _range(low: float, high: float) -> dict[str, float]:
    """The ends of the threshold slider, and its place at the lower one, where every picture passes."""
    low, high = math.floor(low * 100) / 100, math.ceil(high * 100) / 100
    return {"minimum": low, "maximum": high, "value": low}


def _parsed(message: str) -> dict[str, Any]:
    try:
        event = json.loads(message)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
