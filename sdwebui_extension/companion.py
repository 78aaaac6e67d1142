"""The hidden always-on script: a script from the dropdown gets only `run`, the hooks inside a generation come here."""

from __future__ import annotations

from typing import Any

from modules import scripts

from . import assembled, host, results, settings, xyz
from .job import Job, job_of
from .request import Request
from .service import service


class ImageRewardCompanion(scripts.Script):
    """Does nothing unless a job hangs on the processing object, or the settings ask for a score on every image."""

    create_group = False
    sorting_priority = 1000  # reForge sorts by it: after those that change the image

    def title(self) -> str:
        return "ImageReward hooks"

    @host.guarded("hide the script of the hooks", bool)
    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> None:
        return None

    @host.guarded("see what a caller of the API wants saved")
    def setup(self, p: Any, *args: Any) -> None:
        assembled.mark_the_callers_choice(p)

    @host.guarded("begin a run of *Score every image*")
    def process(self, p: Any, *args: Any) -> None:
        job = job_of(p)
        if job is not None and not job.belongs_to(p):
            job.in_cell(p)
        if job is not None or not settings.get("image_reward_always"):
            return
        if not (host.last_image_hook() and host.has_hook("postprocess")):  # nobody would score, or end it
            return
        if assembled.makes_pieces(p):
            assembled.score_what_is_saved(p)
        else:
            Job(Request(settings.default_scorer()), finishes_itself=True, tells_settings=False).attach(p)

    @host.guarded("end the images of a batch")
    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        job = job_of(p)
        if job is not None:
            job.end_of_images(p)

    @host.guarded("score an image")
    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        self._score(p, pp, "postprocess_image")

    @host.guarded("score an image")
    def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
        self._score(p, pp, "postprocess_image_after_composite")

    def _score(self, p: Any, pp: Any, hook: str) -> None:
        job = job_of(p)
        if job is not None and job.belongs_to(p) and hook == host.last_image_hook():
            job.score(p, pp.image)

    @host.guarded("end a run of *Score every image*")
    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        job = job_of(p)
        if job is None:
            assembled.remember_text(p, processed)
            return
        job.end_of_images(p)
        if job.finishes_itself:
            try:
                results.finish(p, job, [results.collect(p, job, processed)])
            finally:
                job.detach(p)
                service.settle()
            xyz.fill_empty_cell(job, processed)
            assembled.expect_a_grid(job, processed)
