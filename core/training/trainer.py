"""The loop of every training: evaluations, updates, checkpoints, the best weights, and going on from where it stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch

from ..errors import ImageRewardError
from ..files.console import counted
from .checkpoints import BEST, CHECKPOINTS, BestWeights, Checkpoints
from .interrupts import interrupt_later
from .outputs import Saver
from .states import DamagedState, whole_number
from .updates import Update, Updates

SKIPPED_IN_A_ROW = 10


class Trainer(ABC):
    """Subclasses say what an update and an evaluation are, and which state they have beside that of `Updates`.

    A run that goes on from a checkpoint ends in the same weights, to the bit, as one that was never stopped.
    """

    def __init__(
        self, updates: Updates, folder: Path | None, *, steps: int, evaluate_every: int, save_every: int, keep: int = 2
    ) -> None:
        """folder: None writes no file. evaluate_every, save_every: in updates; 0 is never, and at the end alone."""
        self.updates, self.backend = updates, updates.backend
        self.steps, self.evaluate_every, self.save_every = steps, evaluate_every, save_every
        self.saver = Saver(self.report)
        self.best_weights = BestWeights(folder / BEST if folder else None, updates.parameters, self.backend, self.saver)
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, keep) if folder else None

    # what a subclass is made of

    @abstractmethod
    def report(self, text: str) -> None:
        """Show a person what happened."""

    @abstractmethod
    def one_update(self) -> None:
        """Compute gradients and call `apply`."""

    @abstractmethod
    def evaluate(self) -> None:
        """Evaluate the weights; those that are the best so far go to `best_weights`."""

    @property
    @abstractmethod
    def evaluated_at(self) -> int | None:
        """After how many updates the last evaluation was."""

    @abstractmethod
    def forget_best(self) -> None:
        """The best weights are lost: the next evaluation's are the best."""

    @abstractmethod
    def own_state(self) -> dict[str, Any]: ...

    @abstractmethod
    def restore_own(self, state: dict[str, Any]) -> None:
        """Raises ImageRewardError for the state of another run, and nearly anything for a damaged one."""

    @property
    def should_stop(self) -> bool:
        """Whether the run ends before its last update."""
        return False

    # the run

    @property
    def update(self) -> int:
        """How many updates were made."""
        return self.updates.made

    def run(self) -> None:
        """To the end. Any exception, Ctrl-C included, first leaves a checkpoint to go on from."""
        try:
            while True:
                if self._evaluation_is_due():
                    self.evaluate()
                if self.should_stop or self.update >= self.steps:
                    return
                self.one_update()
                if self.save_every and self.update % self.save_every == 0:
                    self.save()
        except BaseException:
            self.save()
            raise

    def _evaluation_is_due(self) -> bool:
        if not self.evaluate_every or self.evaluated_at == self.update:
            return False
        return self.update % self.evaluate_every == 0 or self.update >= self.steps

    def apply(self, *, finite: bool = True) -> Update:
        """Make the update; one that cannot be made is reported. Raises ImageRewardError if many cannot, one after the other."""
        made = self.updates.apply(finite=finite)
        if not made.applied:
            in_a_row = self.updates.skipped_in_a_row
            self.report(f"update {self.update} skipped: its loss or gradient is not finite ({in_a_row} in a row)")
            if in_a_row >= SKIPPED_IN_A_ROW:
                raise ImageRewardError(
                    f"the loss or gradient was not finite for {SKIPPED_IN_A_ROW} updates in a row, up to update "
                    f"{self.update}: lower the learning rate (now {made.learning_rate:g}), clip gradients to a smaller "
                    f"norm, or compute in float32 or bfloat16. The best weights so far are kept"
                )
        return made

    # saving and going on

    def save(self) -> None:
        """A checkpoint; what cannot be written is reported and does not end the run."""
        if self.checkpoints is None or not self.backend.first:
            return
        checkpoints = self.checkpoints
        with interrupt_later():
            self.best_weights.write_again()
            self.saver.attempt("the checkpoint", lambda: checkpoints.save(self.update, self._state()))

    def resume(self, cure: str) -> None:
        """From the newest checkpoint that can be used. Raises ImageRewardError, which `cure` ends, if none can."""
        assert self.checkpoints is not None
        for wrong in self.checkpoints.restore_latest(self._restore, cure):
            self.report(f"{wrong}; going on from the checkpoint before it, after {counted(self.update, 'update')}")
        self._expect_best()
        self.backend.wait()  # until every process has read what is changed now
        if self.backend.first:
            self.checkpoints.set_aside(after=self.update)

    def take_best(self) -> bool:
        """Go back to the best weights, if there are any; False, and the weights stay, if they are lost."""
        self.backend.wait()
        if not self.best_weights.kept:
            return True
        try:
            self.updates.restore_weights(self.best_weights.read())
        except DamagedState as error:
            self._lose_best(f"the best weights are lost, the run ends with those of now: {error}")
            return False
        return True

    def _state(self) -> dict[str, Any]:
        best = self.best_weights.state()
        return {**self.updates.state(), "best_weights": best, "rng": torch.get_rng_state(), **self.own_state()}

    def _restore(self, state: dict[str, Any]) -> None:
        made = whole_number(state["update"])
        if made > self.steps:
            raise ImageRewardError(
                f"the run has already made {counted(made, 'update')}, and steps is {self.steps}: give at least {made} to go on"
            )
        self.restore_own(state)
        self.updates.restore(state)
        self.best_weights.restore(state["best_weights"])
        torch.set_rng_state(state["rng"])

    def _expect_best(self) -> None:
        """An evaluation whose weights are lost must not stand against later ones."""
        if not self.best_weights.kept:
            return
        try:
            self.best_weights.read()
        except DamagedState as error:
            self._lose_best(f"the best weights so far are lost, those of the next evaluation count: {error}")

    def _lose_best(self, message: str) -> None:
        self.report(message)
        self.best_weights.kept = False
        self.forget_best()
