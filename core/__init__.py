"""The public surface: load a scorer, rate images. Nothing is imported before it is used."""

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
    from .scoring.rate import Ratings, get_reward_score, judge, rate

__version__ = "0.1.0"

_HOME = {
    "ImageRewardError": "errors",
    "MixScorer": "scorers.mix",
    "Mixture": "scorers.mixture",
    "Ratings": "scoring.rate",
    "Scorer": "scorers.base",
    "ScorerInfo": "scorers.base",
    "get_reward_score": "scoring.rate",
    "judge": "scoring.rate",
    "load_scorer": "scorers.loading",
    "loaded_scorers": "scorers.loading",
    "rate": "scoring.rate",
    "scorer_infos": "scorers.registry",
    "unload_all": "scorers.loading",
}

__all__ = [
    "ImageRewardError",
    "MixScorer",
    "Mixture",
    "Ratings",
    "Scorer",
    "ScorerInfo",
    "get_reward_score",
    "judge",
    "load_scorer",
    "loaded_scorers",
    "rate",
    "scorer_infos",
    "unload_all",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
