"""The optimizer and its learning rate; the rate is a function of the update's number, so there is no state to resume."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from ..errors import ImageRewardError


class OptimiserSettings(Protocol):
    """What an optimizer and its learning rate are made of; a run's configuration has these fields."""

    @property
    def optimizer(self) -> str: ...  # "adamw" or "adamw8bit"
    @property
    def learning_rate(self) -> float: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def warmup(self) -> int: ...  # updates
    @property
    def schedule(self) -> str: ...  # "constant", "linear" or "cosine"
    @property
    def steps(self) -> int: ...  # updates in all


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimiserSettings) -> Optimizer:
    """AdamW (arXiv 1711.05101) as configured, or bitsandbytes' with 8-bit moments (arXiv 2110.02861)."""
    kind = torch.optim.AdamW
    if config.optimizer == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise ImageRewardError(
                "optimizer adamw8bit needs bitsandbytes: pip install bitsandbytes (or take adamw)"
            ) from error
        kind = AdamW8bit
    return kind(
        list(parameters),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )


def rate_factor(config: OptimiserSettings, update: int) -> float:
    """The factor of the rate at update 0, 1, ...: a linear rise over `warmup` updates, then as `schedule` says."""
    if update < config.warmup:
        return (update + 1) / config.warmup
    return decay(config.schedule, update - config.warmup, config.steps - config.warmup)


def decay(schedule: str, step: float, steps: float) -> float:
    """The factor of the rate `step` steps after the rise, of `steps` in all: constant, linear or half a cosine to 0."""
    share = min(1.0, step / max(1.0, steps))
    return {"constant": 1.0, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}[schedule]
