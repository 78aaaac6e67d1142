"""The updates of a run: learning rate, clipping, scaled gradients, averages, and the state from which they go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .backend import Backend
from .ema import Ema
from .interrupts import interrupt_later
from .states import expect_weights, restore_optimizer, whole_number


class Update(NamedTuple):
    """What became of one update."""

    applied: bool  # False: its loss or gradient was not finite, and the weights stayed
    gradient_norm: float
    learning_rate: float  # of the first group


class Updates:
    """Turns gradients into changes of the weights.

    Args:
        parameters: what is trained, by name.
        module: what has these parameters; `self.module` calls it as the backend wants it called.
        factor: of each group's learning rate at update 0, 1, ...
        clip: the longest gradient.
        ema_decay: keeps a moving average of the weights.
        float16: the module computes in it.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        module: nn.Module,
        optimizer: Optimizer,
        backend: Backend,
        factor: Callable[[int], float],
        *,
        clip: float = float("inf"),
        ema_decay: float | None = None,
        float16: bool = False,
    ) -> None:
        self.parameters, self.backend, self.factor, self.clip = dict(parameters), backend, factor, clip
        self.ema = None if ema_decay is None else Ema(parameters, ema_decay)
        self.module, self.optimizer = backend.prepare(module, optimizer, float16=float16)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.made = 0  # with those that were skipped
        self.skipped_in_a_row = 0

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def apply(self, *, finite: bool = True) -> Update:
        """Make one update of the gradients, unless they, or the loss that they are of (`finite`), are not finite."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.factor(self.made)
        norm = self.backend.clip(list(self.parameters.values()), self.optimizer, self.clip)
        applied = finite and bool(torch.isfinite(norm))
        with interrupt_later():
            self.backend.step(self.optimizer, apply=applied)
            if applied and self.ema is not None:
                self.ema.update()
            self.optimizer.zero_grad(set_to_none=True)
            self.made += 1
            self.skipped_in_a_row = 0 if applied else self.skipped_in_a_row + 1
        return Update(applied, float(norm), self.learning_rate)

    def averaged(self) -> AbstractContextManager[None]:
        """A block in which the parameters hold their averages, if there are any."""
        return nullcontext() if self.ema is None else self.ema.applied()

    def weights(self) -> dict[str, Tensor]:
        """On the CPU, where they may share the parameters' memory."""
        return {name: parameter.detach().cpu() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def restore_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Raises DamagedState, before anything is changed, for weights that are not those trained here."""
        expect_weights(weights, self.parameters)
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])

    def state(self) -> dict[str, Any]:
        return {
            "update": self.made,
            "skipped": self.skipped_in_a_row,
            "weights": self.weights(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.averages.state_dict(),
            "scaler": self.backend.scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises nearly anything for a damaged state."""
        self.made, self.skipped_in_a_row = whole_number(state["update"]), whole_number(state["skipped"])
        self.restore_weights(state["weights"])
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.ema is not None:
            self.ema.averages.load_state_dict(state["ema"])
        self.backend.scaler.load_state_dict(state["scaler"])
