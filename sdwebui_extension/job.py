"""One run: the pictures seen so far, their scores, and the score that the parameters line shows at this moment.

A job hangs on the host's processing object `p`, so that a generation which another extension starts inside ours (on a `p`
of its own) is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ImageRewardError
from ..core.infotext.scores import format_score, score_texts
from ..core.infotext.syntax import plain_prompt
from . import host, settings
from .request import Request
from .service import ScorerUnavailable, require_number, service

ATTRIBUTE = "image_reward_job"
TAG = "image_reward_number"  # in `Image.info`, which copies and conversions of an image inherit; never written to files
AESTHETIC_KEY = "aesthetic_score"
BY_US = 1  # as good as True, but distinct from the True that a host sets for the frames of a video


@dataclass(eq=False)
class Picture:
    """One generated image and all that the host keeps in lists parallel to it."""

    number: int  # in the order of generation
    image: Any
    position: int  # in its batch, as the host counts the images
    index: int  # in the batch's lists, which may be shorter
    prompt: str
    negative_prompt: str
    seed: int
    subseed: int
    texts: dict[str, str] = field(default_factory=dict)  # key -> value for the parameters line
    score: float = math.nan  # NaN: could not be scored
    rejected: bool = False
    saved: bool = False  # its own file is written; what the host saves next beside it is a mask or the like
    files: list[Path] = field(default_factory=list)


class Job:
    """finishes_itself: nobody waits for the end of the run (a cell of the X/Y/Z plot, say), so the last hook ends it.
    tells_settings: the parameters get the script and its settings, for *Send to txt2img*.
    """

    def __init__(self, request: Request, *, finishes_itself: bool = False, tells_settings: bool = True) -> None:
        self.request = request
        self.finishes_itself = finishes_itself
        self.settings = request.infotext() if tells_settings else {}
        self.pictures: list[Picture] = []
        self._live: Picture | None = None  # the last one whose score is known
        self.notes: list[str] = []  # for the user, each once
        self.unavailable = False
        self.host_makes_grid = True
        self._owner: Any = None
        self._in_plot = False
        self._published: set[str] = set()

    # -- life on a processing object -----------------------------------------------------------------------------

    def attach(self, p: Any) -> None:
        """Takes over the grid when the gallery may change, and writes the run's settings into the parameters."""
        p.extra_generation_params.update(self.settings)
        self.host_makes_grid = not p.do_not_save_grid
        p.do_not_save_grid = BY_US  # `results` makes the grid, without a score and of what is kept
        self._owner, self._in_plot = p, host.in_plot(p)
        setattr(p, ATTRIBUTE, self)

    def belongs_to(self, p: Any) -> bool:
        """Whether the images that are made with `p` now are this run's: a copy of `p` may be the cell of a plot, and what the
        host gets in the end is the plot itself."""
        return p is self._owner and self._in_plot == host.in_plot(p)

    def in_cell(self, p: Any) -> Job:
        """Such a run for a copy of `p` that another script made of it."""
        p.extra_generation_params = dict(p.extra_generation_params)  # else shared with the other cells
        cell = Job(self.request, finishes_itself=True)
        cell.settings = self.settings
        cell.attach(p)
        return cell

    def detach(self, p: Any) -> None:
        self.end_of_images(p)
        p.do_not_save_grid = not self.host_makes_grid
        for key in self.settings:
            p.extra_generation_params.pop(key, None)
        setattr(p, ATTRIBUTE, None)

    # -- image by image ------------------------------------------------------------------------------------------

    def score(self, p: Any, image: Any) -> Picture:
        """Scores the image that the user gets; failing leaves it unscored, with one note."""
        self.end_of_images(p)  # whatever fails below, the picture before is not in charge of this one's text and file
        position = p.batch_index
        picture = Picture(
            number=len(self.pictures),
            image=image,
            position=position,
            index=min(position, len(p.prompts) - 1),
            prompt=host.of_image(p, "prompts", position),
            negative_prompt=host.of_image(p, "negative_prompts", position),
            seed=host.of_image(p, "seeds", position),
            subseed=host.of_image(p, "subseeds", position),
        )
        image.info[TAG] = picture.number
        self.pictures.append(picture)
        self._scorer(picture)
        self._publish(p, picture)
        unscored = math.isnan(picture.score)
        picture.rejected = self.request.filter and not unscored and not self.request.passes(picture.score)
        self._live = picture
        return picture

    def in_charge(self, p: Any) -> Picture | None:
        """The picture whose text and file the host makes now; none for an image that was not scored."""
        live = self._live
        return live if live is not None and getattr(p, "batch_index", live.position) == live.position else None

    def end_of_images(self, p: Any) -> None:
        """From here on no text carries a score: what is left in the dictionary would leak into the next image's."""
        self._live = None
        for key in self._published:
            p.extra_generation_params.pop(key, None)
        self._published.clear()

    def _scorer(self, picture: Picture) -> None:
        if self.unavailable:
            return
        prompt = plain_prompt(picture.prompt) if self.request.plain_prompt else picture.prompt
        try:
            scores = service.score(self.request.scorer, [picture.image], [prompt])
            total = float(scores.total[0])
            require_number(total, scores.info.title)
        except Exception as error:  # whatever happens, the image goes its way
            self.unavailable = isinstance(error, ScorerUnavailable)
            self.note(advice(error))
            return
        # The score that is shown is the one that counts: an image of 0.5812 passes a threshold of 0.5812.
        picture.score = float(format_score(total, settings.decimals()))
        values = scores.to_write(0, parts=settings.get("image_reward_parts"))
        picture.texts = score_texts(values, settings.decimals())
        if settings.get("image_reward_aesthetic_pair"):
            for title, value in values.items():
                if "aesthetic" in title.lower():
                    picture.texts |= score_texts({AESTHETIC_KEY: value}, 2)

    def _publish(self, p: Any, picture: Picture) -> None:
        for key in picture.texts:
            p.extra_generation_params[key] = self._text_of(key) if host.asks_for_values() else picture.texts[key]
            self._published.add(key)

    def _text_of(self, key: str) -> Callable[..., str | None]:
        """What the host calls for the value of `key`, with the position of the image in its batch."""

        @host.guarded(f"write {key} into the parameters")
        def text(p: Any = None, index: int = 0, use_main_prompt: bool = False, **_: Any) -> str | None:
            picture = self.in_charge(p)
            if picture is None or use_main_prompt or index not in (picture.position, picture.index):
                return None
            return picture.texts.get(key)

        return text

    # -- the whole -----------------------------------------------------------------------------------------------

    def passed(self) -> int:
        return sum(self.request.passes(picture.score) for picture in self.pictures)

    def best(self) -> float:
        """The highest score so far, NaN without any."""
        scores = [picture.score for picture in self.pictures if not math.isnan(picture.score)]
        return max(scores, default=math.nan)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            host.log(text)


def job_of(p: Any) -> Job | None:
    return getattr(p, ATTRIBUTE, None)


def advice(error: Exception) -> str:
    reason = str(error) if isinstance(error, ImageRewardError) else f"{type(error).__name__}: {error}"
    return f"ImageReward could not score; every image is kept, without a score. {reason}"
