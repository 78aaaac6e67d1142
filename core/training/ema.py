"""Exponential moving average of the parameters that are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class Ema:
    """torch's AveragedModel with decay min(decay, (1 + n) / (10 + n)) at the n-th update: the warm-up of diffusers' EMA."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float = 0.9999) -> None:
        self.parameters, self.decay = dict(parameters), decay
        self._trained = nn.ParameterList(self.parameters.values())
        self.averages = AveragedModel(self._trained, multi_avg_fn=self._move)

    @torch.no_grad()
    def _move(self, averages: Any, parameters: Any, updates: Any) -> None:
        decay = min(self.decay, (1 + int(updates)) / (10 + int(updates)))
        for average, parameter in zip(averages, parameters, strict=True):
            average.lerp_(parameter, 1 - decay)

    def update(self) -> None:
        self.averages.update_parameters(self._trained)

    @property
    def average(self) -> dict[str, Tensor]:
        return dict(zip(self.parameters, (each.data for each in self.averages.parameters()), strict=True))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters hold the averages for the length of the block."""
        current = {name: parameter.data for name, parameter in self.parameters.items()}
        try:
            for name, average in self.average.items():
                self.parameters[name].data = average
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = current[name]
