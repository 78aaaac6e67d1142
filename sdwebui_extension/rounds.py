"""One run of the script: generate (with a target number, until enough images pass), then filter and order."""

from __future__ import annotations

import dataclasses
from typing import Any

from modules import processing
from modules.shared import state

from ..core.files.console import counted
from . import host, results
from .job import Job
from .request import Request
from .service import service


def run(p: Any, request: Request) -> Any:
    """The `Processed` of a run. `p` is left as it was found: batch img2img and loopbacks call with the same one again."""
    if getattr(p, "txt2img_upscale", False):
        # The gallery's Upscale replaces one image by exactly one.
        request = dataclasses.replace(request, filter=False, sort=False, keep_best=0, until=0)
    job = Job(request)
    seeds = p.seed, p.subseed
    job.attach(p)
    try:
        rounds = _generate(p, job)
        return results.finish(p, job, rounds) if rounds else None
    finally:
        job.detach(p)
        p.seed, p.subseed = seeds
        service.settle()


# What some hosts fill only where it is empty, so that a second generation with the same `p` would make the same images.
LISTS = ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds")


def _generate(p: Any, job: Job) -> list[results.Round]:
    """The rounds; none where the host made nothing, which it tells by itself."""
    rounds = _one_round(p, job)
    first_lists = {name: getattr(p, name, None) for name in LISTS}
    jobs_of_a_round = getattr(state, "job_count", 0)
    while rounds and _wants_more(job, len(rounds)):
        _advance_seeds(p)
        state.job_count = getattr(state, "job_count", 0) + jobs_of_a_round
        host.say(f"ImageReward: {job.passed()} of {counted(job.request.until, 'image')} pass, try {len(rounds) + 1}")
        try:
            another = _one_round(p, job)
        except Exception as error:  # the images of the rounds before must not be lost with it
            job.note(
                f"Try {len(rounds) + 1} failed ({type(error).__name__}: {error}); these are the images made before it."
            )
            break
        if not another:
            break
        rounds += another
    vars(p).update(first_lists)
    if 0 < job.passed() < job.request.until and not host.stopping():
        job.note(f"{job.passed()} of {counted(job.request.until, 'image')} pass after {len(rounds)} tries.")
    return rounds


def _one_round(p: Any, job: Job) -> list[results.Round]:
    processed = processing.process_images(p)
    return [results.collect(p, job, processed)] if processed is not None else []


def _wants_more(job: Job, tries: int) -> bool:
    enough = job.passed() >= job.request.until
    unscorable = all(picture.score != picture.score for picture in job.pictures)  # NaN: more would not help
    return not (enough or unscorable or tries >= job.request.tries or host.stopping())


def _advance_seeds(p: Any) -> None:
    """The seeds that follow those used; with a variation strength the host counts the variation seed instead."""
    if p.subseed_strength == 0:
        p.seed = p.all_seeds[-1] + 1
    else:
        p.seed = p.all_seeds[0]
        p.subseed = p.all_subseeds[-1] + 1
    vars(p).update(dict.fromkeys(LISTS))
