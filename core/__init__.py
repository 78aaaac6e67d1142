"""The public surface: load a scorer, rate images."""

from .errors import ImageRewardError
from .rating import Ratings, judge, rate
from .scorers.base import Scorer, ScorerInfo
from .scorers.loading import load_scorer, loaded_scorers, unload_all
from .scorers.registry import scorer_infos

__all__ = [
    "ImageRewardError",
    "Ratings",
    "Scorer",
    "ScorerInfo",
    "judge",
    "load_scorer",
    "loaded_scorers",
    "rate",
    "scorer_infos",
    "unload_all",
]
