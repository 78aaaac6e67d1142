"""Exponential moving average of the parameters that are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Averages with decay min(decay, (1 + n) / (10 + n)) at the n-th update: the warm-up of TensorFlow's and diffusers' EMA."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float = 0.9999):
        self.parameters = dict(parameters)
        self.decay, self.updates = decay, 0
        self.average = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        decay = 0.0 if self.updates == 0 else min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network draws with the averages for a while."""
        kept = {name: parameter.data for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            parameter.data = self.average[name]
        try:
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = kept[name]

    def state(self) -> dict[str, object]:
        return {"updates": self.updates, "average": dict(self.average)}

    def restore(self, state: Mapping[str, object]) -> None:
        """Raises LookupError, TypeError or ValueError for what `state` did not return."""
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        average: Mapping[str, Tensor] = state["average"]  # type: ignore[assignment]
        for name, tensor in self.average.items():
            if average[name].shape != tensor.shape:
                raise ValueError(
                    f"the average of {name} is {tuple(average[name].shape)}, expected {tuple(tensor.shape)}"
                )
            tensor.copy_(average[name])
