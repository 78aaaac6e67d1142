"""Human preferences as data: images of one prompt in the order in which people put them.

Layouts: ImageRewardDB's (Xu et al. 2023; `data/test.json` of THUDM/ImageReward): `id, prompt, generations, ranking`, and
plain comparisons: `prompt, better, worse`, which are rankings of two. JSON, JSON lines, CSV and TSV.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..errors import ImageRewardError
from ..files.console import counted


class LazyImage(Protocol):
    """A picture that is no file, such as a cell of a `datasets` table."""

    def load(self) -> Any:
        """The PIL image."""

    def __str__(self) -> str: ...


ImageSource = Path | LazyImage


@dataclass(frozen=True)
class Ranking:
    """The images of one prompt and their ranks: 1 is best, equal ranks are a tie."""

    id: str
    prompt: str
    images: tuple[ImageSource, ...]
    ranks: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.ranks):
            raise ImageRewardError(
                f"expected a rank for each image of {self.id!r}, got {len(self.ranks)} for {counted(len(self.images), 'image')}"
            )


class Pair(NamedTuple):
    """One comparison. `tie`: people saw no difference, and the order means nothing."""

    prompt: str
    better: ImageSource
    worse: ImageSource
    tie: bool = False

    @property
    def target(self) -> float:
        """The probability that `better` is preferred."""
        return 0.5 if self.tie else 1.0


def pairs_of(rankings: Iterable[Ranking], *, ties: bool = False) -> list[Pair]:
    """Every comparison within a prompt, in the order of the reference's `rank_pair_dataset`; ties only if wanted."""
    return [pair for ranking in rankings for pair in _pairs(ranking) if ties or not pair.tie]


def _pairs(ranking: Ranking) -> Iterator[Pair]:
    images, ranks = ranking.images, ranking.ranks
    for left in range(len(ranks)):
        for right in range(left + 1, len(ranks)):
            better, worse = (left, right) if ranks[left] <= ranks[right] else (right, left)
            yield Pair(ranking.prompt, images[better], images[worse], ranks[left] == ranks[right])


class Present(NamedTuple):
    """What is left of rankings once images that are not there are taken out."""

    rankings: list[Ranking]
    missing: list[str]


def present(rankings: Sequence[Ranking]) -> Present:
    """Rankings without the images whose files are missing; those of fewer than two images go altogether."""
    files = {image for ranking in rankings for image in ranking.images if isinstance(image, Path)}
    missing = {image for image in files if not os.path.isfile(image)}  # a name may be none that the system takes
    if not missing:
        return Present(list(rankings), [])
    kept = [without(ranking, missing) for ranking in rankings]
    return Present([ranking for ranking in kept if len(ranking.images) > 1], sorted(map(str, missing)))


def without(ranking: Ranking, images: set[Any]) -> Ranking:
    """A ranking with some of its images taken out; the others keep their ranks."""
    stay = [i for i, image in enumerate(ranking.images) if image not in images]
    return Ranking(
        ranking.id, ranking.prompt, tuple(ranking.images[i] for i in stay), tuple(ranking.ranks[i] for i in stay)
    )


def hold_out(rankings: Sequence[Ranking], share: float) -> tuple[list[Ranking], list[Ranking]]:
    """Parts rankings by prompt, so that a prompt is never on both sides.

    Args:
        rankings: what was read.
        share: about this share of the prompts is held out, chosen by the prompts' hash; between 0 and 1.

    Returns:
        (training, validation).

    Raises:
        ImageRewardError: `share` is out of range, or there is only one prompt.
    """
    if not 0 < share < 1:
        raise ImageRewardError(f"the share to hold out lies between 0 and 1, got {share}")

    def place(prompt: str) -> bytes:
        return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()

    prompts = sorted({ranking.prompt for ranking in rankings}, key=place)
    if len(prompts) < 2:
        raise ImageRewardError(
            "cannot hold out prompts for validation: there is only one prompt; give a file with --valid"
        )
    held = set(prompts[: min(len(prompts) - 1, max(1, round(share * len(prompts))))])
    training = [ranking for ranking in rankings if ranking.prompt not in held]
    return training, [ranking for ranking in rankings if ranking.prompt in held]


def data_hash(rankings: Iterable[Ranking]) -> str:
    """sha256 of prompts, image names and ranks: which data a reward model was trained on. Folders do not count."""
    digest = hashlib.sha256()
    for ranking in rankings:
        names = [image.name if isinstance(image, Path) else str(image) for image in ranking.images]
        digest.update(json.dumps([ranking.prompt, names, ranking.ranks]).encode())
    return digest.hexdigest()
