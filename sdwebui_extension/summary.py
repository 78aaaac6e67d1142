"""What a run came to, in a line under the gallery."""

from __future__ import annotations

import math
import statistics

from ..core.files.console import counted
from ..core.infotext.scores import format_score
from . import settings
from .job import Picture
from .request import Request, scorer_title
from .typical import typical


def summary(request: Request, pictures: list[Picture], kept: list[Picture]) -> str:
    """ "6 images scored with ImageReward: best 0.58 (image 3), median -0.12, 2 below 0." Nothing where none has a score.

    kept: the pictures that the gallery shows, in its order; the grid is not counted.
    """
    scored = [picture for picture in pictures if not math.isnan(picture.score)]
    if not scored:
        return ""
    title = scorer_title(request.scorer)
    best = max(scored, key=lambda picture: picture.score)
    if len(pictures) == 1:
        return f"Scored with {title}: {_short(request, best.score)}."
    place = f" (image {kept.index(best) + 1})" if best in kept else ""
    threshold = request.threshold if request.uses_threshold else typical(request.scorer).threshold
    below = sum(picture.score < threshold for picture in scored)
    parts = [
        f"best {_short(request, best.score)}{place}",
        f"median {_short(request, statistics.median(picture.score for picture in scored))}",
        f"{below or 'none'} below {threshold:g}",
    ]
    if request.filter or request.keep_best:
        parts.append(f"{sum(picture in kept for picture in pictures)} kept")
    if len(scored) < len(pictures):
        parts.append(f"{len(pictures) - len(scored)} without a score")
    return f"{counted(len(scored), 'image')} scored with {title}: {', '.join(parts)}."


def nothing_passed(request: Request, pictures: list[Picture]) -> bool:
    """Whether every image was filtered out, or *Keep generating* found none that reaches the threshold."""
    if pictures and all(picture.rejected for picture in pictures):
        return True
    scores = [picture.score for picture in pictures if not math.isnan(picture.score)]
    return request.until > 0 and bool(scores) and not any(map(request.passes, scores))


def none_passed_text(request: Request, pictures: list[Picture]) -> str:
    best = max(picture.score for picture in pictures if not math.isnan(picture.score))
    return (
        f"No image passed the threshold {request.threshold:g}: the best score ({scorer_title(request.scorer)}) of "
        f"{len(pictures)} was {format_score(best, settings.decimals())}. Lower the threshold or generate more images."
    )


def _short(request: Request, score: float) -> str:
    return format_score(score, min(settings.decimals(), typical(request.scorer).decimals))
