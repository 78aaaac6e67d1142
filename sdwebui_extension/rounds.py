"""One run of the script: generate (with a target number, until enough images pass), then filter and order."""

from __future__ import annotations

from typing import Any

from modules import processing

from ..core.files.console import counted
from . import host, results
from .job import Job
from .request import TITLE, Request
from .service import service


def run(p: Any, request: Request) -> Any:
    """The `Processed` of a run. `p` is left as it was found: batch img2img and loopbacks call with the same one again."""
    if getattr(p, "txt2img_upscale", False):
        # The gallery's Upscale replaces one image by exactly one.
        request = request.scoring_only()
    job = Job(request, settings={"Script": TITLE, **request.infotext()})
    made: list[Any] = []
    seeds = p.seed, p.subseed
    try:
        job.attach(p)
        rounds = _generate(p, job, made)
        return results.finish(p, job, rounds) if rounds else None
    except Exception as error:
        if not made:  # nothing is lost with it: the user reads the reason
            raise
        host.tell("choose among the images, all are shown", error)
        return _as_made(made)
    finally:
        host.guarded("end the run")(job.detach)(p)
        p.seed, p.subseed = seeds
        host.guarded("move the model away")(service.settle)()


def _as_made(made: list[Any]) -> Any:
    """All images of all tries, as the host gave them."""
    *before, last = made
    for processed in reversed(before):
        last.images = [*processed.images, *last.images]
    return last


# What some hosts fill only where it is empty, so that a second generation with the same `p` would make the same images.
LISTS = ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds")


def _generate(p: Any, job: Job, made: list[Any]) -> list[results.Round]:
    """The rounds; none where the host made nothing, which it tells by itself. made: gets what it makes, try by try."""
    rounds = _one_round(p, job, made)
    first_lists = {name: getattr(p, name, None) for name in LISTS}
    jobs_of_a_round = host.jobs()
    while rounds and _wants_more(job, len(rounds)):
        _advance_seeds(p)
        host.expect_jobs(host.jobs() + jobs_of_a_round)
        host.say(f"ImageReward: {job.passed()} of {counted(job.request.until, 'image')} pass, try {len(rounds) + 1}")
        try:
            another = _one_round(p, job, made)
        except Exception as error:  # the images of the rounds before must not be lost with it
            if len(made) > len(rounds):  # nor those of this one
                raise
            job.note(
                f"Try {len(rounds) + 1} failed ({type(error).__name__}: {error}); these are the images made before it."
            )
            break
        if not another:
            break
        rounds += another
    vars(p).update(first_lists)
    if 0 < job.passed() < job.request.until and not host.stopping():
        job.note(f"{job.passed()} of {counted(job.request.until, 'image')} pass after {_tries(len(rounds))}.")
    return rounds


def _one_round(p: Any, job: Job, made: list[Any]) -> list[results.Round]:
    processed = processing.process_images(p)
    if processed is None:
        return []
    made.append(processed)
    return [results.collect(p, job, processed)]


def _tries(count: int) -> str:
    return "1 try" if count == 1 else f"{count} tries"


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
