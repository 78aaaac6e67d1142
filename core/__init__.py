"""The public surface: load a scorer, score images. Nothing is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ImageRewardError
    from .scorers.base import Scorer, ScorerInfo
    from .scorers.loading import load_scorer, loaded_scorers, unload_all
    from .scorers.mix import MixScorer
    from .scorers.mixture import Mixture
    from .scorers.registry import scorer_infos
    from .scoring.score import ImageScores, get_reward_score, score_images

__version__ = "0.1.0"

_HOME = {
    "ImageRewardError": "errors",
    "MixScorer": "scorers.mix",
    "Mixture": "scorers.mixture",
    "ImageScores": "scoring.score",
    "Scorer": "scorers.base",
    "ScorerInfo": "scorers.base",
    "get_reward_score": "scoring.score",
    "score_images": "scoring.score",
    "load_scorer": "scorers.loading",
    "loaded_scorers": "scorers.loading",
    "scorer_infos": "scorers.registry",
    "unload_all": "scorers.loading",
}

__all__ = [
    "ImageRewardError",
    "ImageScores",
    "MixScorer",
    "Mixture",
    "Scorer",
    "ScorerInfo",
    "get_reward_score",
    "load_scorer",
    "loaded_scorers",
    "score_images",
    "scorer_infos",
    "unload_all",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
