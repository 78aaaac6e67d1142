"""Holds the scorer that is loaded: where it lives, when it leaves, what happens when there is no room.

The one instance, `service`, is made when this module is first imported, loads nothing then, and lives on through
*Reload UI*. The host's queue lock guards it: generations, the API and *Unload* all hold it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..core.errors import DownloadFailed, ImageRewardError
from ..core.infotext.syntax import plain_prompt
from ..core.networks.devices import full_precision
from ..core.scorers.base import Scorer
from ..core.scorers.loading import load_scorer
from ..core.scoring.fallback import dtype_on, move_if_room, score_with_fallback
from ..core.scoring.score import ImageScores
from . import host, settings
from .folders import WEIGHTS_FOLDER, add_weights_folders

MEBIBYTE = 1 << 20


class ScorerUnavailable(ImageRewardError):
    """The scorer is not available: trying again for the next image would fail in the same way."""


def require_number(score: float, title: str) -> None:
    """Raises ImageRewardError for a score that is NaN or infinite, as it comes when the numbers of a precision run out."""
    if not math.isfinite(score):
        raise ImageRewardError(
            f"{title} gave {score}, which is no score. Try Settings > ImageReward > Precision: float32."
        )


class Service:
    def __init__(self) -> None:
        self._scorer: Scorer | None = None
        self._key: tuple[Any, ...] = ()
        self._no_room = False  # the device was full; stay on the CPU until this run ends

    # -- scoring -------------------------------------------------------------------------------------------------

    def score(self, name: str, images: Sequence[Any], prompts: Sequence[str]) -> ImageScores:
        """Scores images (whatever `score_images` takes) with the scorer `name`, loading it if need be.

        Raises ScorerUnavailable when the model is not available, else what `score_images` raises.
        """
        try:
            scorer = self._ready(name)
        except Exception as error:
            self.unload()
            reason = str(error) if isinstance(error, ImageRewardError) else f"{type(error).__name__}: {error}"
            raise ScorerUnavailable(reason) from error
        with full_precision(scorer.device):
            return score_with_fallback(
                scorer, images, prompts, on_cpu=lambda: self._ready_on_cpu(name), make_room=host.free_memory
            )

    def score_one(self, name: str, image: Any, prompt: str, program: str = "A1111") -> dict[str, float]:
        """{title: score} for the file of a picture that belongs to no run, by its prompt without syntax.

        program: whose syntax the prompt has. Raises what `score` raises, and ImageRewardError where nothing is left of the
        prompt for a scorer that reads one, or where the score is no number.
        """
        try:
            plain = plain_prompt(prompt, program)
            info = self._ready(name).info
            if not plain and info.reads_prompt:
                raise ImageRewardError(f"{info.title} reads the prompt, and this image carries none")
            scores = self.score(name, [image], [plain])
            require_number(float(scores.total[0]), info.title)
        finally:
            self.settle()
        return scores.to_write(0, parts=settings.get("image_reward_parts"))

    def ready(self, name: str) -> Scorer:
        """The scorer `name`, loaded and where it runs, for work over many files. `settle` when that is done."""
        return self._ready(name)

    def _ready(self, name: str) -> Scorer:
        """The scorer `name`, where the settings want it and there is room for it."""
        device = torch.device("cpu") if self._no_room else settings.device()
        dtype = dtype_on(device, settings.dtype())
        key = (name, dtype, settings.get(WEIGHTS_FOLDER))
        if self._scorer is None or self._key != key:
            self.unload()
            self._scorer, self._key = self._load(name, dtype), key
        scorer = self._scorer
        if scorer.memory() == 0 or scorer.device.type == device.type:
            return scorer
        # Hooks of Forge and reForge run under inference mode; what is moved there could not be moved or read later.
        with torch.inference_mode(False):
            moved = move_if_room(scorer, device, make_room=host.free_memory)
        return scorer if moved else self._ready_on_cpu(name)

    def _ready_on_cpu(self, name: str) -> Scorer:
        """For the rest of this run."""
        self._no_room = True
        host.log(f"no room on {settings.device()} for the scorer; it runs on the CPU, which takes longer")
        return self._ready(name)

    def _load(self, name: str, dtype: torch.dtype) -> Scorer:
        add_weights_folders()
        return load_scorer(name, device="cpu", dtype=dtype, on_download=_show_download)

    # -- leaving -------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """After scoring: stays on the device, moves to RAM or leaves, as the settings say."""
        self._no_room = False
        after = settings.get("image_reward_after")
        if after == settings.UNLOAD:
            self.unload()
        elif after != settings.KEEP and self._scorer is not None and self._scorer.device.type != "cpu":
            with torch.inference_mode(False):
                self._scorer.to("cpu")
            host.collect()

    def unload(self) -> bool:
        """Frees RAM and VRAM. Returns whether anything was loaded; harmless if not."""
        scorer, self._scorer, self._key = self._scorer, None, ()
        if scorer is None:
            return False
        scorer.unload()
        host.collect()
        return True

    # -- state -------------------------------------------------------------------------------------------------

    def state(self) -> str:
        """One line for the panel: which model, where, how large."""
        scorer = self._scorer
        if scorer is None:
            return "not loaded"
        place = "in RAM" if scorer.device.type == "cpu" else f"on GPU ({scorer.device})"
        return f"{scorer.info.title} {place}, {scorer.memory() / MEBIBYTE:.0f} MB"


def _show_download(done: int, total: int) -> None:
    if host.interrupted():
        raise DownloadFailed("the download was interrupted; the next run continues it")
    share = f"{100 * done / total:.0f}%" if total else f"{done / MEBIBYTE:.0f} MB"
    host.say(f"ImageReward: downloading the model, {share}")


service = Service()
