"""Who watches a run: progress bars, trackers, hosts. The loop calls, they show; raising from a call interrupts the run."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ImageRewardError
from .guard import Evaluation

log = logging.getLogger(__name__)


class Observer:
    """Hears of everything and does nothing; override what you want to know."""

    def on_update(self, record: Mapping[str, Any], pixels: Tensor) -> None:
        """After each update: reward, loss, seconds, ...; `pixels` are the last rollout's pictures, (B, 3, H, W) in 0..1."""

    def on_evaluation(self, evaluation: Evaluation, pixels: Tensor) -> None:
        """After each evaluation; `pixels` are its pictures, (N, 3, H, W) uint8 on the CPU."""

    def on_message(self, text: str) -> None:
        """Something a person should read."""

    def close(self) -> None:
        """The run is over, however it ended."""


class ProgressBar(Observer):
    """One bar on stderr with the reward, the loss and the seconds an update takes."""

    def __init__(self, total: int, done: int = 0):
        from tqdm import tqdm

        self.bar = tqdm(total=total, initial=done, desc="ReFL", unit="update")

    def on_update(self, record: Mapping[str, Any], pixels: Tensor) -> None:
        self.bar.set_postfix_str(
            f"reward {record['reward']:+.4f} loss {record['loss']:.2e} {record['seconds']:.2f} s/update"
        )
        self.bar.update(record["update"] - self.bar.n)

    def on_evaluation(self, evaluation: Evaluation, pixels: Tensor) -> None:
        strength = "" if evaluation.strength == 1 else f" at strength {evaluation.strength:.1f}"
        self.on_message(
            f"evaluation after {evaluation.update} updates{strength}: "
            f"reward {evaluation.mean_reward:+.4f}, held out {evaluation.mean_held_out:+.4f}"
        )

    def on_message(self, text: str) -> None:
        self.bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self.bar.close()


class TensorBoard(Observer):
    """Stops, and says so, when its files cannot be written: curves must not cost the run."""

    def __init__(self, folder: Path):
        self.writer = _summary_writer()(str(folder))
        self.failed = False

    def on_update(self, record: Mapping[str, Any], pixels: Tensor) -> None:
        with self._surviving():
            for key, value in numbers_of(record).items():
                self.writer.add_scalar(f"train/{key}", value, record["update"])

    def on_evaluation(self, evaluation: Evaluation, pixels: Tensor) -> None:
        if evaluation.strength != 1:
            return
        with self._surviving():
            self.writer.add_scalar("evaluation/reward", evaluation.mean_reward, evaluation.update)
            self.writer.add_scalar("evaluation/held_out", evaluation.mean_held_out, evaluation.update)
            self.writer.add_images("evaluation/pictures", pixels, evaluation.update)
            self.writer.flush()

    def close(self) -> None:
        with self._surviving():
            self.writer.close()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.failed:
                log.warning("TensorBoard's log cannot be written, the curves end here: %s", error)
            self.failed = True


class WeightsAndBiases(Observer):
    """Its own files go into `folder`, unless WANDB_DIR says otherwise."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path):
        self.wandb = _wandb()
        place = os.environ.get("WANDB_DIR", str(folder))
        self.run = self.wandb.init(project="imagereward-refl", name=name, config=dict(config), dir=place)

    def on_update(self, record: Mapping[str, Any], pixels: Tensor) -> None:
        self.run.log({f"train/{key}": value for key, value in numbers_of(record).items()}, step=record["update"])

    def on_evaluation(self, evaluation: Evaluation, pixels: Tensor) -> None:
        if evaluation.strength != 1:
            return
        pictures = [self.wandb.Image(picture.permute(1, 2, 0).numpy()) for picture in pixels]  # CHW -> HWC
        self.run.log(
            {
                "evaluation/reward": evaluation.mean_reward,
                "evaluation/held_out": evaluation.mean_held_out,
                "evaluation/pictures": pictures,
            },
            step=evaluation.update,
        )

    def close(self) -> None:
        self.run.finish()


def expect_tracker(name: str) -> None:
    """Refuse a tracker whose package is not there. `name` is that of the setting."""
    if name == "tensorboard":
        _summary_writer()
    elif name == "wandb":
        _wandb()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImageRewardError(
            "tracker 'tensorboard' needs that package: pip install tensorboard "
            "(or set tracker: none; metrics.jsonl is written anyway)"
        ) from error
    return SummaryWriter


def _wandb() -> Any:
    try:
        import wandb  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ImageRewardError(
            "tracker 'wandb' needs that package: pip install wandb (or set tracker: tensorboard)"
        ) from error
    return wandb


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in record.items() if key != "update" and isinstance(value, int | float)}
