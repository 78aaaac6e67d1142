"""How far scores agree with people.

Preference accuracy is the reference's (`acc` in THUDM/ImageReward, test.py; Table 3 of Xu et al. 2023, arXiv 2304.05977):
of all pairs within a prompt that people ordered, the share that the scores order alike. Human ties are skipped; equal
scores for a pair that people ordered are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
_SEED = 20230412


class Estimate(NamedTuple):
    """A number and its 95% interval: percentiles of a bootstrap over prompts (Efron 1979)."""

    value: float
    low: float
    high: float


class Agreement(NamedTuple):
    """What the scores of one scorer say about the human order, over all prompts."""

    prompts: int
    pairs: int  # that people ordered
    human_ties: int
    accuracy: Estimate  # over all pairs, as the reference counts
    accuracy_per_prompt: Estimate  # mean of each prompt's share
    best: Estimate  # share of prompts whose highest score is an image that people put first
    spearman: Estimate  # rank correlations within a prompt, mean over the prompts where they are defined
    kendall: Estimate


def agreement(ranks: Sequence[Sequence[float]], scores: Sequence[Sequence[float]]) -> Agreement:
    """ranks: for each prompt the human ranks of its images, 1 = best. scores: the same shape, higher = better, no NaN."""
    if len(ranks) != len(scores) or any(len(r) != len(s) for r, s in zip(ranks, scores, strict=True)):
        raise ValueError("expected a score for each rank of each prompt")
    counts = np.array([pair_counts(r, s) for r, s in zip(ranks, scores, strict=True)], dtype=np.float64).reshape(-1, 3)
    correct, total, ties = counts.T
    with np.errstate(invalid="ignore"):
        shares = np.where(total > 0, correct / total, np.nan)
    hits = np.array([best_agrees(r, s) for r, s in zip(ranks, scores, strict=True)], dtype=np.float64)
    rho = np.array([spearman(np.negative(r), s) for r, s in zip(ranks, scores, strict=True)])
    tau = np.array([kendall(np.negative(r), s) for r, s in zip(ranks, scores, strict=True)])
    return Agreement(
        prompts=len(ranks),
        pairs=int(total.sum()),
        human_ties=int(ties.sum()),
        accuracy=bootstrap((correct, total), lambda c, t: _divide(c.sum(-1), t.sum(-1))),
        accuracy_per_prompt=bootstrap((shares,), _mean),
        best=bootstrap((hits,), _mean),
        spearman=bootstrap((rho,), _mean),
        kendall=bootstrap((tau,), _mean),
    )


def pair_counts(ranks: Sequence[float], scores: Sequence[float]) -> tuple[int, int, int]:
    """(pairs ordered alike, pairs that people ordered, human ties) of one prompt."""
    rank, score = np.asarray(ranks, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    left, right = np.triu_indices(len(rank), k=1)
    ordered = rank[left] != rank[right]
    # The lower rank must have the strictly higher score.
    alike = (rank[left] - rank[right]) * (score[right] - score[left]) > 0
    return int(alike.sum()), int(ordered.sum()), int((~ordered).sum())


def best_agrees(ranks: Sequence[float], scores: Sequence[float]) -> bool:
    """Whether the highest score (the first of equals) belongs to an image of the best rank."""
    return ranks[int(np.argmax(scores))] == min(ranks)


def average_ranks(values: ArrayLike) -> np.ndarray:
    """(N,) float64 ranks from 1 upward; equal values share the mean of their places."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse.reshape(-1)]


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rho with average ranks for ties; NaN where one side is constant."""
    x, y = average_ranks(a), average_ranks(b)
    x, y = x - x.mean(), y - y.mean()
    return float(_divide((x * y).sum(), np.sqrt((x * x).sum() * (y * y).sum())))


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b (Kendall 1945), which allows for ties; NaN where one side is constant."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    left, right = np.triu_indices(len(x), k=1)
    dx, dy = np.sign(x[left] - x[right]), np.sign(y[left] - y[right])
    return float(_divide((dx * dy).sum(), np.sqrt((dx * dx).sum() * (dy * dy).sum())))


def bootstrap(per_prompt: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray]) -> Estimate:
    """`statistic` of arrays (..., P) along the last axis, and its 95% interval over prompts drawn with replacement."""
    value = float(statistic(*per_prompt))
    prompts = len(per_prompt[0])
    if prompts < 2:
        return Estimate(value, np.nan, np.nan)
    generator = np.random.default_rng(_SEED)
    drawn = []
    for _ in range(RESAMPLES // 100):  # in pieces: all at once would take 16 bytes x prompts x RESAMPLES
        chosen = generator.integers(0, prompts, (100, prompts))
        drawn.append(statistic(*(array[chosen] for array in per_prompt)))
    values = np.concatenate(drawn)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return Estimate(value, np.nan, np.nan)
    low, high = np.percentile(values, (2.5, 97.5))
    return Estimate(value, float(low), float(high))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis over what is no NaN."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0.0).sum(-1), known.sum(-1))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(denominator) > 0, np.divide(numerator, denominator), np.nan)
