"""Pictures that another script puts together itself: SD upscale from tiles, Outpainting from strips, Prompt matrix a grid.

A script that makes one picture of many pieces tells the host to save nothing, generates the pieces, and saves what it made of
them. *Score every image* leaves the pieces alone and scores what is saved. A grid has no score.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

from ..core.infotext.parameters import parse_parameters, without_fields
from ..core.infotext.scores import score_pair, set_scores
from . import host, settings
from .job import Job, advice
from .service import service

ATTRIBUTE = "image_reward_assembled"  # on the processing object: its `Pieces`
BY_CALLER = 1  # as good as True, but distinct from the True that a script sets


@dataclass
class Pieces:
    """What a script generates to assemble it. texts: of the pieces; what it saves has the text of one of them."""

    scorer: str
    texts: set[str] = field(default_factory=set)


_latest: weakref.ref[Any] | None = None  # the processing object that pieces were last made with


def mark_the_callers_choice(p: Any) -> None:
    """Before any script runs: marks where a caller of the API wants no files: its pictures are scored all the same."""
    if p.is_api and p.do_not_save_samples:
        p.do_not_save_samples = BY_CALLER


def makes_pieces(p: Any) -> bool:
    """Whether a script, and not the caller, keeps the host from saving what it generates."""
    marked = host.sets_up_scripts()
    return p.do_not_save_samples is True and (marked or host.chosen_script(p) is not None)


def score_what_is_saved(p: Any) -> None:
    """Before some of the pieces are generated; a script may do so in many parts."""
    global _latest
    if getattr(p, ATTRIBUTE, None) is None:
        setattr(p, ATTRIBUTE, Pieces(settings.default_scorer()))
    _latest = weakref.ref(p)


def remember_text(p: Any, processed: Any) -> None:
    """After some of the pieces are generated."""
    pieces = _pieces(p)
    if pieces is not None:
        pieces.texts.add(processed.info)


def before_save(params: Any) -> None:
    """Scores a picture that a script saves, with the prompt of its own text; failing leaves it unscored."""
    p = _processing(params)
    pieces = _pieces(p)
    section = _section(params, pieces) if pieces is not None else None
    if pieces is None or section is None:
        return
    text = params.pnginfo[section]
    try:
        scores = service.score_one(pieces.scorer, params.image, parse_parameters(text).prompt)
    except Exception as error:
        host.log(advice(error))
        host.comment(p, advice(error))
        return
    params.pnginfo[section] = set_scores(text, scores, settings.decimals())
    shown = ", ".join(score_pair(title, value, settings.decimals()) for title, value in scores.items())
    host.comment(p, f"{Path(params.filename).name}: {shown}")


def _processing(params: Any) -> Any:
    """The processing object of what is saved, which some scripts do not name; None for a picture of the Extras tab, say."""
    return _latest() if params.p is None and _latest is not None else params.p


def _pieces(p: Any) -> Pieces | None:
    return getattr(p, ATTRIBUTE, None)


def _section(params: Any, pieces: Pieces) -> str | None:
    """Under which key the picture's text will stand in the file; None where this is not what the pieces became.

    A script that saves to the folder of the Extras tab names no `p`, and the key is another.
    """
    if params.p is None:
        return next((key for key, text in params.pnginfo.items() if text in pieces.texts), None)
    return "parameters" if params.pnginfo.get("parameters") and _is_sample(params) else None


def _is_sample(params: Any) -> bool:
    """Not a grid: the host does not say, but grids go to a folder of their own, or are named so."""
    path, folder = Path(params.filename), params.p.outpath_samples
    return bool(folder) and path.is_relative_to(folder) and not path.name.startswith("grid-")


class TextsOfImages(list[str]):
    """The texts of the gallery's images. Prompt matrix inserts a copy of the first for its grid: the copy loses the scores."""

    scores: frozenset[str] = frozenset()  # their keys

    def insert(self, index: SupportsIndex, text: str) -> None:
        super().insert(index, without_fields(text, self.scores) if text in self else text)


def expect_a_grid(job: Job, processed: Any) -> None:
    """Nobody tells when the script around a generation has ended, so the list of texts itself takes care of it."""
    texts = TextsOfImages(processed.infotexts)
    texts.scores = frozenset(key for picture in job.pictures for key in picture.texts)
    processed.infotexts = texts
