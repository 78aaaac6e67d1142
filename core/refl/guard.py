"""The guard against reward hacking: held-out scorers that training never sees.

At fixed intervals the same prompts are drawn from the same noises with the tuned weights, and scored by the reward and by
held-out scorers. All are compared picture by picture with what the untuned model drew, so the noise of the drawing cancels.

The rule. A score *has fallen* when its mean change is below -tolerance standard errors of that mean, and *has risen* when it
is above +tolerance of them. Each held-out scorer is judged by itself, in its own range: an evaluation is *sound* when the score
of none has fallen. The best checkpoint is the sound one of highest reward (with none sound, the one whose worst held-out score
changed for the best). It *improves* on the untuned model when it is sound and its reward has risen; what does not improve is
never recommended. The run stops when `patience` evaluations in a row are not sound: in the last the reward is up on the untuned
model (it is hacked), or it is not (the run diverges). Without held-out scorers an evaluation is sound unless its reward has
fallen.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..files.console import counted

SWEEP = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

# How a run may end, and what the guard saw then.
ENDS = {
    "finished": "finished",
    "early_stopped": "stopped early by the guard (the reward rose while a held-out score fell)",
    "diverged": "stopped early by the guard (the scores fell below the untuned model's)",
}


@dataclass(frozen=True)
class Evaluation:
    """The fixed pictures, scored. All values raw, in the scorers' own ranges, one for each picture."""

    update: int
    strength: float
    reward: tuple[float, ...]
    held_out: Mapping[str, tuple[float, ...]]  # by the scorer's title; empty without such a scorer
    # Of each caption with several pictures, how different these are (see `diversity_of`); empty where no caption has.
    diversity: tuple[float, ...] = ()

    @property
    def mean_reward(self) -> float:
        return _mean(self.reward)

    @property
    def means_held_out(self) -> dict[str, float]:
        return {title: _mean(scores) for title, scores in self.held_out.items()}

    @property
    def mean_diversity(self) -> float | None:
        return _mean(self.diversity) if self.diversity else None

    def in_words(self) -> str:
        held_out = "".join(f", held out {title} {mean:+.4f}" for title, mean in self.means_held_out.items())
        diversity = "" if self.mean_diversity is None else f", diversity {self.mean_diversity:.4f}"
        return f"reward {self.mean_reward:+.4f}{held_out}{diversity}"

    def plain(self) -> dict[str, Any]:
        return {
            "update": self.update,
            "strength": self.strength,
            "reward": list(self.reward),
            "held_out": {title: list(scores) for title, scores in self.held_out.items()},
            "diversity": list(self.diversity),
        }

    @classmethod
    def of(cls, values: dict[str, Any]) -> Evaluation:
        held_out = {str(title): _numbers(scores) for title, scores in values["held_out"].items()}
        reward, diversity = _numbers(values["reward"]), _numbers(values["diversity"])
        return cls(int(values["update"]), float(values["strength"]), reward, held_out, diversity)


@dataclass
class Guard:
    """Keeps the evaluations of a run and decides on them. The first one is of the untuned model."""

    patience: int = 3
    tolerance: float = 1.0
    evaluations: list[Evaluation] = field(default_factory=list)

    def add(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)

    @property
    def untuned(self) -> Evaluation:
        return self.evaluations[0]

    def fallen(self, evaluation: Evaluation) -> list[str]:
        """The held-out scorers whose score is below the untuned model's by more than its standard error allows."""
        baseline = self.untuned.held_out
        return [title for title in baseline if self._is_below(evaluation.held_out[title], baseline[title])]

    def has_fallen(self, evaluation: Evaluation) -> bool:
        """Has any held-out score fallen?"""
        return bool(self.fallen(evaluation))

    def has_risen(self, evaluation: Evaluation) -> bool:
        """Is the reward above the untuned model's by more than its standard error allows?"""
        mean, error = _mean_and_error(evaluation.reward, self.untuned.reward)
        return mean > self.tolerance * error

    def improves(self, evaluation: Evaluation) -> bool:
        """Is it better than the untuned model, beyond the noise of the fixed pictures?"""
        return self.has_risen(evaluation) and not self.has_fallen(evaluation)

    def relative_diversity(self, evaluation: Evaluation) -> float | None:
        """How different one caption's pictures are, as a share of what they are with the untuned model."""
        now, before = evaluation.mean_diversity, self.untuned.mean_diversity
        return now / before if now is not None and before else None

    def is_unsound(self, evaluation: Evaluation) -> bool:
        """Has a held-out score fallen, or without any the reward itself?"""
        if self.untuned.held_out:
            return self.has_fallen(evaluation)
        return self._is_below(evaluation.reward, self.untuned.reward)

    @property
    def end(self) -> str:
        """A key of `ENDS`: why the run should end now, "finished" if there is no reason."""
        last = self.evaluations[1:][-self.patience :]
        if len(last) < self.patience or not all(map(self.is_unsound, last)):
            return "finished"
        return "early_stopped" if last[-1].mean_reward > self.untuned.mean_reward else "diverged"

    def _is_below(self, values: Sequence[float], baseline: Sequence[float]) -> bool:
        mean, error = _mean_and_error(values, baseline)
        return not mean >= -self.tolerance * error  # NaN has fallen

    @property
    def best_tuned(self) -> Evaluation | None:
        """The tuned weights to keep: highest reward of the sound ones; with none sound, those of the least fall."""
        tuned = self.evaluations[1:]
        if not tuned:
            return None
        sound = [each for each in tuned if not self.has_fallen(each)]
        if sound:
            return max(sound, key=lambda each: each.mean_reward)
        return max(tuned, key=self._worst_change)

    def _worst_change(self, evaluation: Evaluation) -> float:
        """The change of the held-out score that fell most, in standard deviations of the untuned pictures' scores."""
        changes = []
        for title, baseline in self.untuned.held_out.items():
            change = evaluation.means_held_out[title] - _mean(baseline)
            changes.append(change / (_deviation(baseline) or 1.0))
        return -math.inf if any(map(math.isnan, changes)) else min(changes)

    def recommend(self, sweep: Sequence[Evaluation]) -> tuple[float | None, str]:
        """The LoRA strength of a sweep that improves most, None where none improves, and the reason in words."""
        better = [each for each in sweep if self.improves(each)]
        if better:
            best = max(better, key=lambda each: each.mean_reward)
            return best.strength, "highest reward of the strengths at which no held-out score has fallen"
        if any(map(self.has_risen, sweep)):
            return None, "a held-out score has fallen at every strength that raises the reward"
        return None, "the reward is above the untuned model's beyond noise at no strength"

    def forget_tuned(self) -> None:
        """For a run that has lost its best weights."""
        self.evaluations = self.evaluations[:1]

    def state(self) -> list[dict[str, Any]]:
        return [each.plain() for each in self.evaluations]

    def restore(self, state: Sequence[dict[str, Any]], pictures: int, titles: Sequence[str]) -> None:
        """Raises LookupError, TypeError, ValueError or AttributeError for what is no such state.

        Args:
            state: what `state` gave.
            pictures: how many an evaluation has.
            titles: of the held-out scorers.
        """
        evaluations = [Evaluation.of(_of_today(each, titles)) for each in state]
        for each in evaluations:
            if list(each.held_out) != list(titles):
                raise ValueError(
                    f"expected held-out scores by {', '.join(titles) or 'none'}, got {', '.join(each.held_out)}"
                )
            counts = [len(each.reward), *map(len, each.held_out.values())]
            if any(count != pictures for count in counts):
                raise ValueError(
                    f"expected {counted(pictures, 'score')} an evaluation, got {', '.join(map(str, counts))}"
                )
        self.evaluations = evaluations


def _of_today(values: dict[str, Any], titles: Sequence[str]) -> dict[str, Any]:
    """An evaluation of a run that began when there was one held-out scorer at most, and no diversity."""
    held_out = values["held_out"]
    if isinstance(held_out, list):
        held_out = dict(zip(titles, [held_out], strict=True)) if held_out else {}
    return {"diversity": [], **values, "held_out": held_out}


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _deviation(values: Sequence[float]) -> float:
    return statistics.pstdev(values) if all(map(math.isfinite, values)) else 0.0


def _mean_and_error(values: Sequence[float], baseline: Sequence[float]) -> tuple[float, float]:
    change: Tensor = torch.tensor(values, dtype=torch.float64) - torch.tensor(baseline, dtype=torch.float64)
    error = change.std(unbiased=True) / len(change) ** 0.5 if len(change) > 1 else torch.zeros(())
    return change.mean().item(), error.item()
