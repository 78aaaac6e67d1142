"""Who watches a run: progress bars, trackers, hosts. The loop calls, they show; raising from a call interrupts the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..files.console import counted
from ..files.progress import Progress
from ..training.trackers import Tracker
from .guard import Evaluation


class Observer:
    """Is called after every event of a run and does nothing; override what you need."""

    def on_update(self, record: Mapping[str, Any], pixels: Tensor) -> None:
        """After each update: reward, loss, seconds, ...; `pixels` are the last rollout's pictures, (B, 3, H, W) in 0..1."""

    def on_evaluation(self, evaluation: Evaluation, pixels: Tensor) -> None:
        """After each evaluation; `pixels` are its pictures, (N, 3, H, W) uint8 on the CPU."""

    def on_message(self, text: str) -> None:
        """Something a person should read."""

    def close(self) -> None:
        """The run is over, however it ended."""


class ProgressBar(Observer):
    """One bar on stderr with the reward, the loss and the seconds an update takes; a line now and then where that is a log.

    Args:
        total: updates of the run.
        done: those that were made before it went on.
    """

    def __init__(self, total: int, done: int = 0):
        self.progress = Progress("ReFL", "update", total, done, leave=True)

    def on_update(self, record: Mapping[str, Any], pixels: Tensor) -> None:
        self.progress.show(record["update"], note=f"reward {record['reward']:+.4f}, loss {record['loss']:.2e}")

    def on_evaluation(self, evaluation: Evaluation, pixels: Tensor) -> None:
        strength = "" if evaluation.strength == 1 else f" at strength {evaluation.strength:.1f}"
        self.on_message(f"evaluation after {counted(evaluation.update, 'update')}{strength}: {evaluation.in_words()}")

    def on_message(self, text: str) -> None:
        self.progress.write(text)

    def close(self) -> None:
        self.progress.close()


class Curves(Observer):
    """Every number of the updates, and of each evaluation at full strength its scores and pictures, in a tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_update(self, record: Mapping[str, Any], pixels: Tensor) -> None:
        self.tracker.log({f"train/{key}": value for key, value in numbers_of(record).items()}, record["update"])

    def on_evaluation(self, evaluation: Evaluation, pixels: Tensor) -> None:
        if evaluation.strength == 1:
            values: dict[str, float | Tensor] = {
                "evaluation/reward": evaluation.mean_reward,
                "evaluation/pictures": pixels,
            }
            values |= {f"evaluation/held_out/{title}": mean for title, mean in evaluation.means_held_out.items()}
            if evaluation.mean_diversity is not None:
                values["evaluation/diversity"] = evaluation.mean_diversity
            self.tracker.log(values, evaluation.update)

    def close(self) -> None:
        self.tracker.close()


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in record.items() if key != "update" and isinstance(value, int | float)}
