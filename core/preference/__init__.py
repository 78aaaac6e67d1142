"""What people prefer: comparisons, training of reward models on them, and how far scorers agree with people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_names

if TYPE_CHECKING:
    from .agreement import Agreement as Agreement
    from .agreement import Estimate as Estimate
    from .benchmark import Benchmark as Benchmark
    from .benchmark import benchmark_models as benchmark_models
    from .benchmark import find_generations as find_generations
    from .benchmark import read_prompts as read_prompts
    from .evaluate import Evaluation as Evaluation
    from .evaluate import evaluate_scorers as evaluate_scorers
    from .rankings import Ranking as Ranking
    from .rankings import hold_out as hold_out
    from .reading import read_rankings as read_rankings
    from .recipe import HEAD_ONLY as HEAD_ONLY
    from .recipe import Recipe as Recipe
    from .train_reward import Trained as Trained
    from .train_reward import train_reward_model as train_reward_model
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
