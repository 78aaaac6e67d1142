"""Pictures that another script puts together itself: SD upscale from tiles, Outpainting from strips.

Such a script tells the host to save nothing, generates the pieces, and saves what it made of them. *Score every image*
leaves the pieces alone and scores what is saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.infotext.parameters import parse_parameters
from ..core.infotext.scores import score_pair, set_scores
from . import host, settings
from .job import advice
from .service import service

ATTRIBUTE = "image_reward_assembled"  # on the processing object: name of the scorer
BY_CALLER = 1  # as good as True, but distinct from the True that a script sets


def mark_the_callers_choice(p: Any) -> None:
    """Before any script runs: marks where a caller of the API wants no files: its pictures are scored all the same."""
    if p.is_api and p.do_not_save_samples:
        p.do_not_save_samples = BY_CALLER


def makes_pieces(p: Any) -> bool:
    """Whether a script, and not the caller, keeps the host from saving what it generates."""
    marked = host.sets_up_scripts()
    return p.do_not_save_samples is True and (marked or host.chosen_script(p) is not None)


def score_what_is_saved(p: Any) -> None:
    setattr(p, ATTRIBUTE, settings.default_scorer())


def before_save(params: Any) -> None:
    """Scores a picture that a script saves, with the prompt of its own text; failing leaves it unscored."""
    scorer = getattr(params.p, ATTRIBUTE, None)
    text = params.pnginfo.get("parameters")
    if scorer is None or not text or not _is_sample(params):
        return
    try:
        scores = service.score_one(scorer, params.image, parse_parameters(text).prompt)
    except Exception as error:
        host.log(advice(error))
        host.comment(params.p, advice(error))
        return
    params.pnginfo["parameters"] = set_scores(text, scores, settings.decimals())
    shown = ", ".join(score_pair(title, value, settings.decimals()) for title, value in scores.items())
    host.comment(params.p, f"{Path(params.filename).name}: {shown}")


def _is_sample(params: Any) -> bool:
    """Not a grid: the host does not say, but grids go to a folder of their own, or are named so."""
    path, folder = Path(params.filename), params.p.outpath_samples
    return bool(folder) and path.is_relative_to(folder) and not path.name.startswith("grid-")
