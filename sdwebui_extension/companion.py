"""The always-on script: it shows the accordion and gets the hooks inside a generation.

A script from the dropdown gets only `run`, so its job is served here too.
"""

from __future__ import annotations

from typing import Any

from modules import scripts

from ..core.errors import ImageRewardError
from . import assembled, beside, host, results, xyz
from .accordion import API_TITLE, Accordion, read_accordion
from .job import job_of
from .request import TITLE
from .service import service

BOTH = (
    "Script > ImageReward and the accordion ImageReward are both on: the settings of the script were used, those of the "
    "accordion were not."
)
AXIS = (
    "The X/Y/Z plot has an axis of ImageReward, which filters each cell by itself: filter, order and 'Keep the best N' of the "
    "accordion were not used."
)


class ImageRewardCompanion(scripts.Script):
    """Does nothing unless a job hangs on the processing object, or the accordion is on."""

    sorting_priority = 1000  # reForge sorts by it: after those that change the image
    nesting = beside.Nesting()  # one for both tabs: one generation goes on at a time

    def title(self) -> str:
        return API_TITLE

    @host.guarded("hide the script of the hooks", bool)
    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    @host.guarded("make the accordion", list)
    def ui(self, is_img2img: bool) -> list[Any]:
        accordion = Accordion(self.elem_id)
        self.infotext_fields = host.pasted(accordion.infotext_fields())
        host.after_component(self, accordion.panel.refresh_after_generation, "generation_info_{tab}")
        return accordion.inputs

    @host.guarded("prepare a run")
    def setup(self, p: Any, *args: Any) -> None:
        assembled.mark_the_callers_choice(p)
        script = host.chosen_script(p)
        if script is None or script.title() == TITLE:
            return
        try:
            request = read_accordion(*args)
        except ImageRewardError:
            return  # `process` tells of it
        if request is not None:
            beside.wait_for(script, p, request)

    @host.guarded("begin a run of the accordion")
    def process(self, p: Any, *args: Any) -> None:
        if self.nesting.begins_inside(p):
            return
        job = job_of(p)
        if job is not None and not job.belongs_to(p):
            job = job.in_cell(p)
        if not (host.last_image_hook() and host.has_hook("postprocess")):  # nobody would score, or end it
            return
        try:
            request = read_accordion(*args)
        except ImageRewardError as error:
            host.comment(p, f"ImageReward scored nothing: {error}")
            return
        if request is None:
            return
        if job is not None:
            if not job.finishes_itself:
                job.note(BOTH)
            elif request.chooses:
                job.note(AXIS)
        elif assembled.makes_pieces(p):
            assembled.score_what_is_saved(p, request)
        else:
            beside.job_for(p, request).attach(p)

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

    @host.guarded("end a run of the accordion")
    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        self.nesting.ends(p)
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
