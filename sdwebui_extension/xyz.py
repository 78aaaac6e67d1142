"""The axes *ImageReward threshold* and *ImageReward scorer* of the X/Y/Z plot.

The plot is the script of its run, so ours is not: each cell gets a job of its own, which the companion ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from modules import scripts
from PIL import Image, ImageDraw

from ..core.errors import ImageRewardError
from ..core.files.console import counted
from ..core.infotext.scores import format_score
from . import beside, host, settings
from .job import Job, job_of
from .request import Request, scorer_name, scorer_titles

THRESHOLD, SCORER = "ImageReward threshold", "ImageReward scorer"
PAPER, INK = "#EEEEEE", "#222222"


def register() -> None:
    """Adds the axes if they are missing; called when our own script is loaded, and when every script is."""
    grid = _xyz_module()
    if grid is None:
        return
    scorers = host.guarded("list the scorers", list)(scorer_titles)
    present = {option.label for option in grid.axis_options}

    def axis(label: str, kind: type, change: Callable[[Request, Any], Request], **more: Any) -> Any:
        more |= host.known_to(grid.AxisOption, confirm=_confirm(change))
        return grid.AxisOption(label, kind, _apply(change), **more)

    for option in (
        axis(THRESHOLD, float, _with_threshold),
        axis(SCORER, str, _with_scorer, choices=scorers, cost=0.5),
    ):
        if option.label not in present:
            grid.axis_options.append(option)


def _xyz_module() -> Any:
    for data in scripts.scripts_data:
        if Path(data.path).name == "xyz_grid.py":
            return data.module
    return None


def _confirm(change: Callable[[Request, Any], Request]) -> Callable[[Any, list[Any]], None]:
    """What the plot calls before its first cell: a value that cannot be ends it there, before anything is generated."""

    def confirm(p: Any, values: list[Any]) -> None:
        for value in values:
            change(Request(), value)

    return confirm


def _with_threshold(request: Request, value: float) -> Request:
    if not math.isfinite(value):
        raise ImageRewardError(f"Expected a finite number for the axis {THRESHOLD}, got {value}.")
    return replace(request, filter=True, threshold=float(value))


def _with_scorer(request: Request, value: str) -> Request:
    return replace(request, scorer=scorer_name(value))


def _apply(change: Callable[[Request, Any], Request]) -> Callable[[Any, Any, Any], None]:
    """What the plot calls on a cell's own copy of `p`, for each of its axes."""

    def apply(p: Any, value: Any, values: Any) -> None:
        earlier = job_of(p)
        p.extra_generation_params = dict(p.extra_generation_params)  # the copy of `p` shares it with the other cells
        if earlier is not None:
            earlier.detach(p)
        request = change(earlier.request if earlier is not None else _usual(p), value)
        cell = Job(request, finishes_itself=True, settings=request.infotext())
        cell.is_cell = True
        cell.attach(p)

    return apply


def _usual(p: Any) -> Request:
    """What the accordion asks for where it is on, without its choices: those are made when the plot is whole."""
    run = beside.run_of(p)
    return run.request.scoring_only() if run is not None else Request(scorer=settings.default_scorer())


def fill_empty_cell(job: Job, processed: Any) -> None:
    """Where every image of a cell was rejected, the plot shows why, in place of a black square."""
    if job.is_cell and job.pictures and all(picture.rejected for picture in job.pictures):
        best = format_score(job.best(), settings.decimals())
        lines = (f"{counted(len(job.pictures), 'image')} rejected", f"best {best} < {job.request.threshold:g}")
        processed.images = [_written(job.pictures[0].size, *lines), *processed.images]
        processed.infotexts = [processed.info, *processed.infotexts]


def _written(size: tuple[int, int], *lines: str) -> Image.Image:
    """A plain image of this size, with the lines in its middle."""
    image = Image.new("RGB", size, PAPER)
    canvas = ImageDraw.Draw(image)
    height = size[1] // 4
    width = max(canvas.textlength(line, font=host.font(height)) for line in lines)
    height = max(1, min(height, int(0.9 * height * size[0] / width)))
    font = host.font(height)
    for number, line in enumerate(lines):
        place = ((size[0] - canvas.textlength(line, font=font)) / 2, size[1] / 2 + (1.2 * number - 1.1) * height)
        canvas.text(place, line, fill=INK, font=font)
    return image
