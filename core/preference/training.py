"""How a reward model is trained: pairwise cross-entropy on rankings, validated after each epoch.

train/src/train.py of THUDM/ImageReward, written so that each image of a step is run once for all of its pairs, and that any
number of processes takes the same steps: a step's pairs are dealt to the processes, and its loss is divided by how many
pairs the step has in all.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple, dataclass
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ImageRewardError
from ..files.console import counted
from ..networks.devices import full_precision, mixed_precision
from ..training.backend import Backend
from ..training.states import whole_number
from ..training.trainer import Trainer
from ..training.updates import Updates
from .batches import PairBatch
from .plan import Group, Plan
from .recipe import Recipe, learning_rate
from .report import write_json
from .sources import Picks, Source

log = logging.getLogger(__name__)

HISTORY = "history.json"
OnImages = Callable[[str, int, int], None]  # (what is done with them, done, total)


def pair_losses(rewards: Tensor, target: Tensor) -> Tensor:
    """(B, 2) rewards of better and worse, (B,) probability that better is preferred -> (B,) cross-entropy (Bradley-Terry)."""
    return F.cross_entropy(rewards.float(), torch.stack((target, 1 - target), dim=1), reduction="none")


@dataclass(frozen=True)
class Epoch:
    """One line of the history; epoch 0 is the model before training."""

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    lr: float
    valid_reward_mean: float  # of the raw reward over the images of the validation pairs
    valid_reward_std: float


@dataclass(frozen=True)
class Step:
    """A step that was made; loss and accuracy are those of its epoch so far, on this process."""

    done: int
    total: int
    epoch: int
    loss: float
    accuracy: float
    images: int  # that were run, over all processes
    seconds: float


@dataclass
class Tally:
    """Sums over pairs; ties count for the loss and the rewards alone."""

    loss: float = 0.0
    pairs: float = 0.0
    correct: float = 0.0
    ordered: float = 0.0
    rewards: float = 0.0  # of both images of each pair
    squares: float = 0.0

    def add(self, rewards: Tensor, losses: Tensor, batch: PairBatch[Any]) -> None:
        counted = batch.weight
        ordered = counted * (batch.target == 1)
        self.loss += float((losses.detach() * counted).sum())
        self.pairs += float(counted.sum())
        self.correct += float((ordered * (rewards[:, 0] > rewards[:, 1])).sum())
        self.ordered += float(ordered.sum())
        for pair, weight in zip(rewards.tolist(), counted.tolist(), strict=True):  # not every device has float64
            self.rewards += weight * sum(pair)
            self.squares += weight * sum(reward**2 for reward in pair)

    @property
    def mean_loss(self) -> float:
        return self.loss / self.pairs if self.pairs else float("nan")

    @property
    def accuracy(self) -> float:
        return self.correct / self.ordered if self.ordered else float("nan")

    @property
    def reward_mean(self) -> float:
        return self.rewards / (2 * self.pairs) if self.pairs else float("nan")

    @property
    def reward_std(self) -> float:
        return max(0.0, self.squares / (2 * self.pairs) - self.reward_mean**2) ** 0.5 if self.pairs else float("nan")


class Usable(NamedTuple):
    """What a training that breaks off has come to; the module holds its weights."""

    best: Epoch | None  # None: the weights of now, which no validation has seen
    accuracy: float  # on the validation pairs; of the weights of now, on the training pairs of the epoch so far
    reward_mean: float
    reward_std: float


class _Planned(NamedTuple):
    pairs: int  # of the step, over all processes
    images: int
    shares: list[Picks]  # what this process computes, in pieces that fit its device


class RewardTrainer(Trainer):
    """Trains `module` (batch -> (B, 2) rewards) in place and leaves it at its best epoch.

    fingerprint: what must agree for a resume. save_steps: also save every so many steps within an epoch.
    on_step, on_epoch, on_images("validate", done, total): what they raise stops the training, which `go_on` continues.
    """

    def __init__(
        self,
        module: nn.Module,
        training: Source[Any],
        validation: Source[Any],
        recipe: Recipe,
        folder: Path,
        backend: Backend,
        fingerprint: str,
        *,
        save_steps: int = 0,
        on_step: Callable[[Step], None] | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        on_images: OnImages | None = None,
    ) -> None:
        if recipe.amp == "fp16" and backend.device.type != "cuda":
            raise ImageRewardError(f"fp16 training needs a CUDA GPU, not {backend.device}; take bf16 or no AMP")
        groups = parameter_groups(module, recipe)
        if not groups:
            raise ImageRewardError("nothing is left to train: every parameter is frozen")
        steps_per_epoch = -(-len(training) // recipe.batch_size)
        steps = steps_per_epoch * recipe.epochs
        updates = Updates(
            {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad},
            module,
            torch.optim.Adam(groups, lr=recipe.lr, weight_decay=recipe.weight_decay),
            backend,
            lambda step: learning_rate(step, steps, recipe.warmup),
            clip=recipe.clip_norm or float("inf"),
            float16=recipe.amp == "fp16",
        )
        super().__init__(updates, folder, steps=steps, evaluate_every=steps_per_epoch, save_every=save_steps)
        self.module, self.training, self.validation, self.recipe = module, training, validation, recipe
        self.training_plan, self.validation_plan = (Plan(each.better, each.worse) for each in (training, validation))
        self.folder, self.fingerprint = folder, fingerprint
        self.on_step, self.on_epoch, self.on_images = on_step, on_epoch, on_images
        self.history: list[Epoch] = []
        self.best: Epoch | None = None  # whose weights are kept
        self.unreadable: set[str] = set()
        self._tally: Tally | None = None  # of the epoch so far
        self._work = self._work_left()

    def go_on(self) -> None:
        """From the newest checkpoint, if there is any."""
        if self.checkpoints is not None and self.checkpoints.paths():
            self.resume("To begin anew, give another --output, or leave out --resume.")

    def train(self) -> list[Epoch]:
        """All epochs, or those that are left; the module ends with the weights of the lowest validation loss."""
        self.run()
        self.take_best()
        self.module.eval()
        return self.history

    def usable(self) -> Usable:
        """The best epoch so far, whose weights the module takes; those of now before an epoch was validated.

        For a training that breaks off: no other process is asked. Raises ImageRewardError if they cannot be used.
        """
        if self.best is not None and len(self.history) > 1:
            self.updates.restore_weights(self.best_weights.read())
            best = self.best
            found = Usable(best, best.valid_accuracy, best.valid_reward_mean, best.valid_reward_std)
        elif self._tally is not None:
            found = Usable(None, self._tally.accuracy, self._tally.reward_mean, self._tally.reward_std)
        else:
            raise ImageRewardError("no step was made since the training was resumed")
        if not all(bool(weights.isfinite().all()) for weights in self.updates.parameters.values()):
            raise ImageRewardError("the weights of now are not finite")
        if not 0 < found.reward_std < math.inf:
            raise ImageRewardError(f"the standard deviation of its rewards is {found.reward_std:g}")
        return found

    def report(self, text: str) -> None:
        log.warning("%s", text)

    # -- one step ------------------------------------------------------------------------------------------------

    def one_update(self) -> None:
        began = time.perf_counter()
        planned, batches = next(self._work)
        self._tally = self._tally or Tally()
        # Dropout follows from the step alone, so that a resumed run draws what an unbroken one would.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.update * self.backend.world + self.backend.rank)
        self.module.train()
        for number, batch in enumerate(batches, start=1):
            with self.backend.accumulating(last=number == len(batches)):
                rewards, losses, batch = self._losses(self.updates.module, batch)
                self.backend.backward((losses * batch.weight).sum() * (self.backend.world / planned.pairs))
            self._tally.add(rewards, losses, batch)
        self.apply()
        if self.on_step is not None and self.backend.first:
            epoch, seconds = len(self.history), time.perf_counter() - began
            tally = self._tally
            self.on_step(Step(self.update, self.steps, epoch, tally.mean_loss, tally.accuracy, planned.images, seconds))

    def _work_left(self) -> Iterator[tuple[_Planned, list[PairBatch[Any]]]]:
        """The steps that are left, with this process's share of each in batches."""
        first = self.update % self.evaluate_every
        for epoch in range(self.update // self.evaluate_every, self.recipe.epochs):
            plan = self._plan(epoch)[first:]
            batches = self.training.batches([picks for planned in plan for picks in planned.shares])
            for planned in plan:
                yield planned, list(islice(batches, len(planned.shares)))
            first = 0

    def _plan(self, epoch: int) -> list[_Planned]:
        generator = torch.Generator().manual_seed(self.recipe.seed + epoch)
        plan, at_once = self.training_plan, self.recipe.per_device
        return [
            _Planned(sum(map(len, groups)), len(plan.images(chain(*groups))), self._share(plan, groups, at_once))
            for groups in plan.steps(self.recipe.batch_size, generator)
        ]

    def _share(self, plan: Plan, groups: Sequence[Group], at_once: int) -> list[Picks]:
        """This process's batches, each of the images of up to `at_once` pairs; every process takes part in every step."""
        own = plan.batches(groups, 2 * at_once, self.backend.rank, self.backend.world)
        return [[(i, 1.0) for i in batch] for batch in own] or [[(groups[0][0], 0.0)]]

    def _losses(self, module: Callable[..., Any], batch: PairBatch[Any]) -> tuple[Tensor, Tensor, PairBatch[Any]]:
        """(B, 2) rewards and (B,) losses of a batch, and the batch on the device."""
        self.unreadable.update(batch.unreadable)
        batch = batch.to(self.backend.device)
        with self._autocast():
            rewards = module(batch)
            return rewards, pair_losses(rewards, batch.target), batch

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.amp == "no":
            return full_precision(self.backend.device)
        dtype = torch.float16 if self.recipe.amp == "fp16" else torch.bfloat16
        return mixed_precision(self.backend.device, dtype)

    # -- validation ----------------------------------------------------------------------------------------------

    def evaluate(self) -> None:
        """An epoch ends: validation, the history, the best weights, a checkpoint."""
        train, valid = self._training_tally(), self.validate()
        record = Epoch(
            epoch=len(self.history),
            step=self.update,
            train_loss=train.mean_loss,
            train_accuracy=train.accuracy,
            valid_loss=valid.mean_loss,
            valid_accuracy=valid.accuracy,
            lr=self.updates.learning_rate,
            valid_reward_mean=valid.reward_mean,
            valid_reward_std=valid.reward_std,
        )
        self.history.append(record)
        self._tally = None
        if self.best is None or record.valid_loss < self.best.valid_loss:
            self.best = record
            self.best_weights.keep(self.updates.weights())
        if record.epoch:
            self.save()
        self._write_history()

    @torch.no_grad()
    def validate(self) -> Tally:
        """Loss and accuracy over all validation pairs; each process takes a share."""
        self.module.eval()
        tally = Tally()
        plan, at_once = self.validation_plan, self.recipe.per_device * 2  # no gradients: twice as many fit
        shares = self._share(plan, plan.groups, at_once)
        ends = list(accumulate(len(plan.images(i for i, _ in picks)) for picks in shares))
        for done, batch in zip(ends, self.validation.batches(shares), strict=True):
            tally.add(*self._losses(self.module, batch))
            if self.on_images is not None and self.backend.first:
                self.on_images("validate", done, ends[-1])
        return self._total(tally, "validation")

    def _training_tally(self) -> Tally:
        """Of the epoch that ends; empty where its steps were made before the run was resumed."""
        return Tally() if self._tally is None else self._total(self._tally, "training")

    def _total(self, tally: Tally, what: str) -> Tally:
        """The sums over all processes; `what` names the pairs in an error."""
        total = Tally(*self.backend.total(torch.tensor(astuple(tally))).tolist())
        if total.pairs == 0:
            raise ImageRewardError(f"not one image of the {what} pairs can be read; {len(self.unreadable)} are broken")
        return total

    def _write_history(self) -> None:
        if not self.backend.first:
            return
        rows = [asdict(epoch) for epoch in self.history]
        self.saver.attempt(HISTORY, lambda: write_json(rows, self.folder / HISTORY))
        if self.on_epoch is not None:
            self.on_epoch(self.history[-1])

    # -- the state -----------------------------------------------------------------------------------------------

    @property
    def evaluated_at(self) -> int | None:
        return self.history[-1].step if self.history else None

    def forget_best(self) -> None:
        self.best = None

    def own_state(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "history": [asdict(epoch) for epoch in self.history],
            "best_epoch": None if self.best is None else self.best.epoch,
            "unreadable": sorted(self.unreadable),
        }

    def restore_own(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.fingerprint:
            raise ImageRewardError(
                f"the checkpoint in {self.folder} is of another training: its data, base or settings differ; give the same "
                f"call as before, or another --output"
            )
        history = [_epoch(values) for values in state["history"]]
        if not 0 <= state["update"] - (len(history) - 1) * self.evaluate_every <= self.evaluate_every:
            raise ValueError(f"update {state['update']} does not follow from {counted(len(history), 'epoch')}")
        best = state["best_epoch"]
        self.best = None if best is None else history[whole_number(best)]
        self.history = history
        self.unreadable = {str(name) for name in state["unreadable"]}


def parameter_groups(module: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """What is trained, by learning rate: the head's own, and lower layers slower by `layer_decay` each."""
    depths: dict[str, int] = {}
    for name, _ in module.named_parameters():
        tower, layer = _place(name)
        depths[tower] = max(depths.get(tower, 0), layer + 1)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            tower, layer = _place(name)
            if tower == "mlp":
                lr = recipe.lr if recipe.head_lr is None else recipe.head_lr
            else:
                below_top = 0 if name.startswith("visual_encoder.norm.") else depths[tower] - 1 - layer
                lr = recipe.lr * recipe.layer_decay**below_top
            groups.setdefault(lr, []).append(parameter)
    return [{"params": parameters, "lr": lr} for lr, parameters in groups.items()]


def _place(name: str) -> tuple[str, int]:
    """("text_encoder", 3) of a parameter in its layer 3; -1 for embeddings."""
    parts = name.split(".")
    numbers = [part for part in parts if part.isdigit()]
    return parts[0], int(numbers[0]) if numbers else -1


def _epoch(values: dict[str, Any]) -> Epoch:
    """Raises TypeError or ValueError for what is no line of a history."""
    epoch = Epoch(**values)
    whole_number(epoch.epoch)
    float(epoch.valid_loss)
    return epoch
