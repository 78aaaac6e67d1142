"""The guard against reward hacking: a held-out scorer that training never sees.

At fixed intervals the same prompts are drawn from the same noises with the tuned weights, and scored by the reward and by a
held-out scorer. Both are compared picture by picture with what the untuned model drew, so the noise of the drawing cancels.

The rule. A score *has fallen* when its mean change is below -tolerance standard errors of that mean, and *has risen* when it
is above +tolerance of them. The best checkpoint is the one of highest reward among those whose held-out score has not fallen
(if it fell at all of them, the one with the highest held-out score). It *improves* on the untuned model when its reward has
risen and its held-out score has not fallen; what does not improve is never recommended. The run stops when, `patience`
evaluations in a row, the held-out score has fallen and the reward is up on the untuned model (it is hacked) or has fallen as
well (the run diverges). Without a held-out scorer nothing falls but the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..files.console import counted

SWEEP = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

# How a run may end, and what the guard saw then.
ENDS = {
    "finished": "finished",
    "early_stopped": "stopped early by the guard (the reward rose while the held-out score fell)",
    "diverged": "stopped early by the guard (every score fell below the untuned model's)",
}


@dataclass(frozen=True)
class Evaluation:
    """The fixed pictures, scored. All values raw, in the scorers' own ranges; `held_out` is empty without such a scorer."""

    update: int
    strength: float
    reward: tuple[float, ...]
    held_out: tuple[float, ...]

    @property
    def mean_reward(self) -> float:
        return sum(self.reward) / len(self.reward)

    @property
    def mean_held_out(self) -> float:
        return sum(self.held_out) / len(self.held_out)

    def in_words(self) -> str:
        held_out = f", held out {self.mean_held_out:+.4f}" if self.held_out else ""
        return f"reward {self.mean_reward:+.4f}{held_out}"

    def plain(self) -> dict[str, Any]:
        return {
            "update": self.update,
            "strength": self.strength,
            "reward": list(self.reward),
            "held_out": list(self.held_out),
        }

    @classmethod
    def of(cls, values: dict[str, Any]) -> Evaluation:
        reward, held_out = (tuple(float(score) for score in values[name]) for name in ("reward", "held_out"))
        return cls(int(values["update"]), float(values["strength"]), reward, held_out)


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

    def has_fallen(self, evaluation: Evaluation) -> bool:
        """Is the held-out score below the untuned model's by more than its standard error allows?"""
        if not self.untuned.held_out:
            return False
        return self._is_below(evaluation.held_out, self.untuned.held_out)

    def has_risen(self, evaluation: Evaluation) -> bool:
        """Is the reward above the untuned model's by more than its standard error allows?"""
        mean, error = _mean_and_error(evaluation.reward, self.untuned.reward)
        return mean > self.tolerance * error

    def improves(self, evaluation: Evaluation) -> bool:
        """Is it better than the untuned model, beyond the noise of the fixed pictures?"""
        return self.has_risen(evaluation) and not self.has_fallen(evaluation)

    def is_hacked(self, evaluation: Evaluation) -> bool:
        return evaluation.mean_reward > self.untuned.mean_reward and self.has_fallen(evaluation)

    def has_diverged(self, evaluation: Evaluation) -> bool:
        """Have all scores fallen?"""
        held_out = self.has_fallen(evaluation) or not self.untuned.held_out
        return held_out and self._is_below(evaluation.reward, self.untuned.reward)

    @property
    def end(self) -> str:
        """A key of `ENDS`: why the run should end now, "finished" if there is no reason."""
        last = self.evaluations[1:][-self.patience :]
        if len(last) < self.patience:
            return "finished"
        if all(map(self.is_hacked, last)):
            return "early_stopped"
        return "diverged" if all(map(self.has_diverged, last)) else "finished"

    def _is_below(self, values: Sequence[float], baseline: Sequence[float]) -> bool:
        mean, error = _mean_and_error(values, baseline)
        return not mean >= -self.tolerance * error  # NaN has fallen

    @property
    def best_tuned(self) -> Evaluation | None:
        """The tuned weights to keep: highest reward of the sound ones; with none sound, highest held-out score."""
        tuned = self.evaluations[1:]
        if not tuned:
            return None
        sound = [each for each in tuned if not self.has_fallen(each)]
        if sound:
            return max(sound, key=lambda each: each.mean_reward)
        return max(tuned, key=lambda each: each.mean_held_out)

    def recommend(self, sweep: Sequence[Evaluation]) -> tuple[float | None, str]:
        """The LoRA strength of a sweep that improves most, None where none improves, and the reason in words."""
        better = [each for each in sweep if self.improves(each)]
        if better:
            best = max(better, key=lambda each: each.mean_reward)
            return best.strength, "highest reward of the strengths at which the held-out score has not fallen"
        if any(map(self.has_risen, sweep)):
            return None, "the held-out score has fallen at every strength that raises the reward"
        return None, "the reward is above the untuned model's beyond noise at no strength"

    def forget_tuned(self) -> None:
        """For a run that has lost its best weights."""
        self.evaluations = self.evaluations[:1]

    def state(self) -> list[dict[str, Any]]:
        return [each.plain() for each in self.evaluations]

    def restore(self, state: Sequence[dict[str, Any]], pictures: int) -> None:
        """pictures: how many an evaluation has. Raises LookupError, TypeError or ValueError for no such state."""
        evaluations = [Evaluation.of(each) for each in state]
        for each in evaluations:
            if len(each.reward) != pictures or len(each.held_out) not in (0, pictures):
                raise ValueError(
                    f"expected {counted(pictures, 'score')} an evaluation, got {len(each.reward)}, {len(each.held_out)}"
                )
        self.evaluations = evaluations


def _mean_and_error(values: Sequence[float], baseline: Sequence[float]) -> tuple[float, float]:
    change: Tensor = torch.tensor(values, dtype=torch.float64) - torch.tensor(baseline, dtype=torch.float64)
    error = change.std(unbiased=True) / len(change) ** 0.5 if len(change) > 1 else torch.zeros(())
    return change.mean().item(), error.item()
