"""What the gallery, the grid and the API get: the host's `Processed`, filtered and in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modules import images as host_images
from modules import processing

from ..core.infotext.parameters import parse_parameters
from ..core.scoring.selection import rank
from . import host, saving
from .job import TAG, Job, Picture
from .request import Request
from .summary import none_passed_text, nothing_passed, summary


@dataclass
class Shown:
    """A picture, its text, and the image first, then the masks that the host shows beside it."""

    picture: Picture
    images: list[Any]
    infotext: str


@dataclass
class Round:
    """One `process_images`."""

    processed: Any
    shown: list[Shown]
    others: list[tuple[Any, str]]  # image and text of what belongs to no one picture: a ControlNet map, a mask of all


def collect(p: Any, job: Job, processed: Any) -> Round:
    """Tells which of the host's images is which picture. Pictures below the threshold are rejected at once."""
    pictures = {picture.number: picture for picture in job.pictures}
    masks = masks_per_picture(p)
    texts = _Texts(processed)
    found = Round(processed, [], [(image, "") for image in processed.images[: processed.index_of_first_image]])
    remaining = 0  # masks of the last picture that are still to come
    for position, image in enumerate(processed.images[processed.index_of_first_image :]):
        picture = _picture_of(image, pictures)
        if picture is not None:
            found.shown.append(Shown(picture, [image], texts.of(image, position)))
            remaining = masks
        elif remaining and found.shown:
            found.shown[-1].images.append(image)
            remaining -= 1
        else:
            found.others.append((image, texts.beside(position)))
    found.shown = [shown for shown in found.shown if not shown.picture.rejected]
    for picture in job.pictures:
        if picture.rejected:
            picture.image = None
    if p.do_not_save_grid is True:  # not by us: the host makes none of the frames of a video
        job.host_makes_grid = False
    return found


class _Texts:
    """The host's texts behind that of the grid: one for each image, or for each picture where masks have none."""

    def __init__(self, processed: Any) -> None:
        first = processed.index_of_first_image
        self._texts = list(processed.infotexts[first:])
        self._parallel = len(self._texts) == len(processed.images) - first

    def of(self, image: Any, position: int) -> str:
        # An interrupted host may have lost or replaced the texts of the first batches, but the images carry theirs.
        own = image.info.get("parameters")
        if own:
            return str(own)
        if self._parallel:
            return str(self._texts[position])
        return str(self._texts.pop(0)) if self._texts else ""

    def beside(self, position: int) -> str:
        """Of an image that is no picture of ours."""
        return str(self._texts[position]) if self._parallel else ""


def _picture_of(image: Any, pictures: dict[int, Picture]) -> Picture | None:
    """Takes the picture that an image shows out of `pictures`.

    By its tag, or, where the host made another image of it after the last hook, by the seeds in the text that it carries.
    """
    tag = image.info.get(TAG)
    if tag in pictures or not host.finishes_images_later():
        return pictures.pop(tag, None)
    fields = parse_parameters(image.info.get("parameters") or "").fields
    for number, picture in pictures.items():
        subseed = str(picture.subseed)
        if fields.get("Seed") == str(picture.seed) and fields.get("Variation seed", subseed) == subseed:
            return pictures.pop(number)
    return None


def masks_per_picture(p: Any) -> int:
    """How many masks the host shows after each picture."""
    if getattr(p, "mask_for_overlay", None) is None:
        return 0
    return bool(host.option("return_mask", p)) + bool(host.option("return_mask_composite", p))


def finish(p: Any, job: Job, rounds: list[Round]) -> Any:
    """One `Processed` of all rounds: best first and only the best, if the request says so; the grid; the notes for the user."""
    processed = rounds[-1].processed  # the host may look again at the last that it made
    shown = [one for found in rounds for one in found.shown]
    others = [one for found in rounds for one in found.others]
    by_number = {one.picture.number: one for one in shown}
    kept = choose(job.request, [one.picture for one in shown], job.note)
    shown = [by_number[picture.number] for picture in kept]
    if job.request.chooses and job.pictures:
        _fill(processed, shown, others)
    try:
        # Where no hook saw an image, the grid is of all, as the host would have made it.
        _add_grid(p, job, processed, [one.images[0] for one in shown] if job.pictures else list(processed.images))
    except Exception as error:  # a full disk, say: the images themselves are there
        job.note(f"The grid could not be made or saved ({type(error).__name__}: {error}); the images are not affected.")
    if not job.is_part:
        tell(processed, job.request, job.pictures, kept, job.notes)
    return processed


def choose(request: Request, pictures: list[Picture], note: Callable[[str], None]) -> list[Picture]:
    """Those that are kept, in the order in which they are shown. Files of the others are put away, or a note says why not."""
    scores = [picture.score for picture in pictures]
    best_first = [i for i in rank(scores) if not request.rejects(scores[i])]
    if request.keep_best:
        scored = [i for i in best_first if not math.isnan(scores[i])]
        unscored = [i for i in best_first if math.isnan(scores[i])]  # never lost to us
        kept = {*scored[: request.keep_best], *unscored}
        best_first = [i for i in best_first if i in kept]
    for i in set(range(len(pictures))) - set(best_first):
        pictures[i].rejected = request.rejects(scores[i])
        for failure in saving.dispose(pictures[i]):
            note(failure)
    positions = best_first if request.sort else sorted(best_first)
    return [pictures[i] for i in positions]


def _fill(processed: Any, shown: list[Shown], others: list[tuple[Any, str]]) -> None:
    processed.images = [image for one in shown for image in one.images] + [image for image, _ in others]
    # One text per image, masks included, so that the text under the gallery is that of the image clicked.
    processed.infotexts = [one.infotext for one in shown for _ in one.images]
    if any(text for _, text in others):
        processed.infotexts += [text for _, text in others]
    processed.index_of_first_image = 0
    if not shown:
        return  # the lists stay as the host made them: it reads their first item
    pictures = [one.picture for one in shown]
    processed.all_prompts = [picture.prompt for picture in pictures]
    processed.all_negative_prompts = [picture.negative_prompt for picture in pictures]
    processed.all_seeds = [picture.seed for picture in pictures]
    processed.all_subseeds = [picture.subseed for picture in pictures]
    processed.seed, processed.subseed = processed.all_seeds[0], processed.all_subseeds[0]
    processed.prompt, processed.negative_prompt = processed.all_prompts[0], processed.all_negative_prompts[0]
    processed.info = processed.infotexts[0]


def _add_grid(p: Any, job: Job, processed: Any, pictures: list[Any]) -> None:
    """The grid as the host makes it, of the pictures that are kept; its text has no score."""
    returned, saved = host.option("return_grid", p), host.option("grid_save", p)
    too_few = len(pictures) < 2 and host.option("grid_only_if_multiple", p)
    if not job.host_makes_grid or not pictures or too_few or not (returned or saved):
        return
    grid = host_images.image_grid(pictures, p.batch_size)
    shape = f"{grid.height // pictures[0].height}x{grid.width // pictures[0].width}"
    text = processing.create_infotext(
        p,
        p.all_prompts,
        p.all_seeds,
        p.all_subseeds,
        index=0,
        all_negative_prompts=p.all_negative_prompts,
        **host.known_to(processing.create_infotext, use_main_prompt=True, grid=shape),
    )
    if returned:
        if host.option("enable_pnginfo", p):
            grid.info["parameters"] = text
        processed.images.insert(0, grid)
        processed.infotexts.insert(0, text)
        processed.info = text
        processed.index_of_first_image = 1
    if saved:
        host_images.save_image(
            grid,
            p.outpath_grids,
            "grid",
            p.all_seeds[0],
            p.all_prompts[0],
            host.option("grid_format", p),
            info=text,
            p=p,
            grid=True,
            **host.known_to(host_images.save_image, short_filename=not host.option("grid_extended_filename", p)),
        )


def tell(processed: Any, request: Request, pictures: list[Picture], kept: list[Picture], notes: Sequence[str]) -> None:
    """Notes and a summary go under the gallery; notes into the API's `info` as well, as `ImageReward note`.

    kept: the pictures that the gallery shows, in its order.
    """
    none_passed = nothing_passed(request, pictures)
    line = none_passed_text(request, pictures) if none_passed else summary(request, pictures, kept)
    below = [getattr(processed, "comments", "").rstrip("\n"), *notes, line]
    noted = [*notes, line] if none_passed else notes
    if none_passed and not processed.images:
        processed.info = below.pop()  # the place that people look at then
    processed.comments = "\n".join(filter(None, below))
    if noted:
        shown = {**processed.extra_generation_params, "ImageReward note": " ".join(noted)}
        processed.extra_generation_params = shown
