"""The accordion beside a script of the dropdown.

Such a script counts on what a generation gives it: Prompt matrix lays the images out by position, Loopback takes the
first one. So within its run every image is scored and stays where it is; when the script has ended, the gallery is filtered
and put in order, and the files of what is rejected are put away.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from . import host, results
from .job import TAG, Job, Picture
from .request import Request
from .service import service

ATTRIBUTE = "image_reward_beside"  # on the processing object, and so on the copies that a script makes of it
SCORED_ONLY = (
    "The accordion ImageReward scored the images and kept all in their order, as their script may count on each."
)


class Run:
    """The run of a script, of as many generations as it makes."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.jobs: list[Job] = []
        self.ended = False

    def begin_generation(self) -> Job:
        job = Job(self.request.scoring_only(), finishes_itself=True, is_part=True)
        job.unavailable = bool(self.jobs) and self.jobs[-1].unavailable
        self.jobs.append(job)
        return job

    def run(self, p: Any, script: Callable[[], Any]) -> Any:
        """What the script gives to the gallery, chosen from; as the script made it where choosing fails."""
        self.jobs, self.ended = [], False
        if _is_upscale(p):
            self.request = self.request.scoring_only()
        settings = self.request.infotext()
        p.extra_generation_params.update(settings)
        try:
            processed = script()
        finally:
            self.ended = True
            for key in settings:
                p.extra_generation_params.pop(key, None)
            service.settle()
        if processed is not None and self.jobs:
            self._end(p, processed)
        return processed

    @host.guarded("choose among the images of a script")
    def _end(self, p: Any, processed: Any) -> None:
        pictures = [picture for job in self.jobs for picture in job.pictures]
        notes = list(dict.fromkeys(note for job in self.jobs for note in job.notes))
        if not self.request.chooses:
            kept = pictures
        else:
            kept = results.choose(self.request, pictures, notes.append)
            _arrange(processed, pictures, kept, results.masks_per_picture(p))
        shown = {image.info.get(TAG) for image in processed.images}
        results.tell(processed, self.request, pictures, [one for one in kept if one.number in shown], notes)


def wait_for(script: Any, p: Any, request: Request) -> None:
    """Before `script` runs for `p`. A script is wrapped once, and is called as ever for what nobody waits for."""
    setattr(p, ATTRIBUTE, Run(request))
    original = script.run
    if hasattr(original, "image_reward"):
        return

    @functools.wraps(original)
    def run(p: Any, *args: Any) -> Any:
        waiting = run_of(p)
        if waiting is None:
            return original(p, *args)
        return waiting.run(p, lambda: original(p, *args))

    run.image_reward = True  # type: ignore[attr-defined]
    script.run = run


def run_of(p: Any) -> Run | None:
    return getattr(p, ATTRIBUTE, None)


def job_for(p: Any, request: Request) -> Job:
    """The job of a generation that begins: part of the script's run, or on its own."""
    run = run_of(p)
    if run is not None and not run.ended:
        return run.begin_generation()
    # A script whose run nobody waits for may count on its images as well, and a plot on one for each cell.
    unwatched = run is None and (host.chosen_script(p) is not None or host.in_plot(p))
    stays = unwatched or _is_upscale(p)
    used = request.scoring_only() if stays else request
    job = Job(used, finishes_itself=True, settings=used.infotext())
    if unwatched and request.chooses:
        job.note(SCORED_ONLY)
    return job


def _is_upscale(p: Any) -> bool:
    """Whether this is *Upscale* of the gallery, which replaces one image by exactly one."""
    return bool(getattr(p, "txt2img_upscale", False))


def _arrange(processed: Any, pictures: list[Picture], kept: list[Picture], masks: int) -> None:
    """Grids stay in front; then come the pictures that are kept, each with its masks, and whatever else there is."""
    ours = {picture.number for picture in pictures}
    positions: dict[int, list[int]] = {}
    front: list[int] = []
    others: list[int] = []
    current: list[int] = []
    for i, image in enumerate(processed.images):
        number = image.info.get(TAG)
        if number in ours:
            current = positions.setdefault(number, [])
            current.append(i)
        elif 0 < len(current) <= masks:
            current.append(i)
        else:
            (others if positions else front).append(i)
    _give_texts_to_masks(processed, {i for block in positions.values() for i in block[1:]})
    order = [*front, *(i for picture in kept for i in positions.get(picture.number, [])), *others]
    _reorder(processed, order, len(front))


def _give_texts_to_masks(processed: Any, masks: set[int]) -> None:
    """One text for each image: a mask, for which the host has none, gets that of its picture."""
    if not masks or len(processed.infotexts) != len(processed.images) - len(masks):
        return
    texts = iter(processed.infotexts)
    spread: list[str] = []
    for i in range(len(processed.images)):
        spread.append(spread[-1] if i in masks else next(texts))
    processed.infotexts = spread


def _reorder(processed: Any, order: list[int], front: int) -> None:
    """The images and every list that runs parallel to them, or to those after the grids."""
    count = len(processed.images)
    for name in ("infotexts", "all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds"):
        values = getattr(processed, name, None)
        if not isinstance(values, list) or len(values) not in (count, count - front):
            continue
        skipped = count - len(values)
        moved = [values[i - skipped] for i in order if i >= skipped]
        if moved or name == "infotexts":  # the host reads the first of the others
            setattr(processed, name, moved)
    processed.images = [processed.images[i] for i in order]


class Nesting:
    """Which generation is going on: one that begins before it has ended belongs to another extension, inside it."""

    def __init__(self) -> None:
        self._outer: Callable[[], Any] = lambda: None
        self._job: Any = None

    def begins_inside(self, p: Any) -> bool:
        """Whether `p` begins inside the generation that is going on; if not, it is that one from now on.

        One that failed never ends, so what comes with the next press of *Generate*, or with the next part of a script's
        run, is not inside it.
        """
        outer, job = self._outer(), host.running_job()
        siblings = run_of(p) is not None and run_of(p) is run_of(outer)
        inside = outer is not None and outer is not p and job == self._job and not siblings
        if not inside:
            self._outer, self._job = weakref.ref(p), job
        return inside

    def ends(self, p: Any) -> None:
        if self._outer() is p:
            self._outer = lambda: None
