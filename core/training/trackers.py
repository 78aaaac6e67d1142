"""Where the curves of a run go: TensorBoard, or Weights & Biases."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..errors import ImageRewardError

log = logging.getLogger(__name__)


class Tracker(Protocol):
    def log(self, values: Mapping[str, float | Tensor], step: int) -> None:
        """Numbers, and images as (N, 3, H, W) uint8 on the CPU."""

    def close(self) -> None: ...


class TensorBoard:
    """Stops, with a warning, when its files cannot be written: curves must not end the run."""

    def __init__(self, folder: Path) -> None:
        self.writer = _summary_writer()(str(folder))
        self.failed = False

    def log(self, values: Mapping[str, float | Tensor], step: int) -> None:
        with self._surviving():
            for name, value in values.items():
                add = self.writer.add_images if isinstance(value, Tensor) else self.writer.add_scalar
                add(name, value, step)
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


class WeightsAndBiases:
    """Its own files go into `folder`, unless WANDB_DIR says otherwise."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        self.wandb = _wandb()
        place = os.environ.get("WANDB_DIR", str(folder))
        self.run = self.wandb.init(project="imagereward-refl", name=name, config=dict(config), dir=place)

    def log(self, values: Mapping[str, float | Tensor], step: int) -> None:
        self.run.log({name: self._plain(value) for name, value in values.items()}, step=step)

    def _plain(self, value: float | Tensor) -> Any:
        if not isinstance(value, Tensor):
            return value
        return [self.wandb.Image(image.permute(1, 2, 0).numpy()) for image in value]  # CHW -> HWC

    def close(self) -> None:
        self.run.finish()


def expect_tracker(name: str) -> None:
    """Raises ImageRewardError if the package of the tracker "tensorboard" or "wandb" is not installed."""
    if name == "tensorboard":
        _summary_writer()
    elif name == "wandb":
        _wandb()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImageRewardError(
            "the tracker tensorboard is not installed: pip install tensorboard, or leave it out (metrics.jsonl or "
            "history.json is written anyway)"
        ) from error
    return SummaryWriter


def _wandb() -> Any:
    try:
        import wandb  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ImageRewardError(
            "the tracker wandb is not installed: pip install wandb (or set tracker: tensorboard)"
        ) from error
    return wandb
