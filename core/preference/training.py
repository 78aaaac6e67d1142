"""The training loop: pairwise cross-entropy, accumulation, validation, the best kept, resume.

train/src/train.py of THUDM/ImageReward, written so that any number of processes takes the same steps: a step's pairs are
dealt to the processes, and its loss is divided by how many pairs the step has in all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ImageRewardError
from ..files.atomic import replace
from ..networks.devices import full_precision, mixed_precision
from ..training.interrupts import interrupt_later
from ..training.outputs import Saver
from ..training.processes import Processes
from ..training.states import (
    DamagedState,
    load_state,
    newest_readable,
    restore_optimizer,
    save_state,
    taking_from,
    whole_number,
)
from .batches import PairBatch, StateBatch
from .recipe import Recipe, learning_rate
from .report import write_json
from .sources import Picks, Source

log = logging.getLogger(__name__)

STATE, PREVIOUS, BEST, HISTORY = "state.pt", "previous-state.pt", "best.pt", "history.json"
PATIENCE_NAN = 10  # steps in a row without a finite gradient before training gives up


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


@dataclass
class Tally:
    """Sums over pairs; ties count for the loss alone."""

    loss: float = 0.0
    pairs: float = 0.0
    correct: float = 0.0
    ordered: float = 0.0

    def add(self, rewards: Tensor, losses: Tensor, batch: PairBatch | StateBatch) -> None:
        counted = batch.weight
        ordered = counted * (batch.target == 1)
        self.loss += float((losses.detach() * counted).sum())
        self.pairs += float(counted.sum())
        self.correct += float((ordered * (rewards[:, 0] > rewards[:, 1])).sum())
        self.ordered += float(ordered.sum())

    def over(self, processes: Processes) -> Tally:
        sums = torch.tensor([self.loss, self.pairs, self.correct, self.ordered])
        return Tally(*processes.total(sums).tolist())

    @property
    def mean_loss(self) -> float:
        return self.loss / self.pairs if self.pairs else float("nan")

    @property
    def accuracy(self) -> float:
        return self.correct / self.ordered if self.ordered else float("nan")


@dataclass
class Trainer:
    """Trains `module` (batch -> (B, 2) rewards) in place and leaves it at its best epoch.

    fingerprint: what must agree for a resume. on_step(done, total), on_epoch(record); what they raise stops the training,
    which `resume` continues. best: the epoch whose weights are kept.
    """

    module: nn.Module
    training: Source
    validation: Source
    recipe: Recipe
    folder: Path
    processes: Processes
    fingerprint: str
    save_steps: int = 0  # also keep the state every so many steps within an epoch
    on_step: Callable[[int, int], None] | None = None
    on_epoch: Callable[[Epoch], None] | None = None
    history: list[Epoch] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    step: int = 0
    best: Epoch | None = None
    _bad_steps: int = 0
    _best_weights: dict[str, Tensor] | None = None  # while they are in no file

    def __post_init__(self) -> None:
        recipe = self.recipe
        if recipe.amp == "fp16" and self.processes.device.type != "cuda":
            raise ImageRewardError(f"fp16 training needs a CUDA GPU, not {self.processes.device}; take bf16 or no AMP")
        groups = parameter_groups(self.module, recipe)
        if not groups:
            raise ImageRewardError("nothing is left to train: every parameter is frozen")
        self.steps_per_epoch = -(-len(self.training) // recipe.batch_size)
        self.steps = self.steps_per_epoch * recipe.epochs
        self.optimizer = torch.optim.Adam(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._scaler = _grad_scaler(enabled=recipe.amp == "fp16")
        self._wrapped = self.processes.wrap(self.module)
        self._trained = [p for p in self.module.parameters() if p.requires_grad]
        self._saver = Saver(log.warning)

    # -- the run -------------------------------------------------------------------------------------------------

    def run(self, *, resume: bool = False) -> list[Epoch]:
        """All epochs, or those that are left; the module ends with the weights of the lowest validation loss."""
        if not (resume and self._go_on()):
            self._begin()
        try:
            while self.step < self.steps:
                self._epoch()
        except ImageRewardError:
            raise  # the weights of now are no good to go on from
        except BaseException:
            self._save_state()
            raise
        self._load_best()
        return self.history

    def _begin(self) -> None:
        self.step, self.history = 0, []
        self.folder.mkdir(parents=True, exist_ok=True)
        valid = self.validate()
        self.history = [Epoch(0, 0, float("nan"), float("nan"), valid.mean_loss, valid.accuracy, self.recipe.lr)]
        self._keep_best()
        self._report()

    def _epoch(self) -> None:
        number = len(self.history)  # epoch 0 is the model before training
        first = self.step - (number - 1) * self.steps_per_epoch
        plan = self._plan(number - 1)[first:]
        batches = self.training.batches([picks for _, shares in plan for picks in shares])
        tally = Tally()
        for size, shares in plan:
            self._train_step(batches, len(shares), size, tally)
            if self.on_step is not None and self.processes.first:
                self.on_step(self.step, self.steps)
            if self.save_steps and self.step % self.save_steps == 0 and self.step % self.steps_per_epoch:
                self._save_state()
        train = tally.over(self.processes)
        if plan and train.pairs == 0:
            raise ImageRewardError(
                f"not one image of the training pairs can be read; {len(self.unreadable)} are broken"
            )
        self._finish_epoch(number, train)

    def _finish_epoch(self, number: int, train: Tally) -> None:
        valid = self.validate()
        lr = self.optimizer.param_groups[0]["lr"]
        record = Epoch(number, self.step, train.mean_loss, train.accuracy, valid.mean_loss, valid.accuracy, lr)
        self.history.append(record)
        if self.best is None or record.valid_loss < self.best.valid_loss:
            self._keep_best()
        self._save_state()
        self._report()

    def _report(self) -> None:
        if not self.processes.first:
            return
        rows = [asdict(epoch) for epoch in self.history]
        self._saver.attempt(HISTORY, lambda: write_json(rows, self.folder / HISTORY))
        if self.on_epoch is not None:
            self.on_epoch(self.history[-1])

    # -- one step ------------------------------------------------------------------------------------------------

    def _plan(self, epoch: int) -> list[tuple[int, list[Picks]]]:
        """For each step how many pairs it has in all, and this process's share of them in pieces that fit its device."""
        shuffled = torch.randperm(len(self.training), generator=_generator(self.recipe.seed + epoch)).tolist()
        size = self.recipe.batch_size
        chunks = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
        return [(len(chunk), self._share(chunk)) for chunk in chunks]

    def _share(self, chunk: Sequence[int]) -> list[Picks]:
        own = [(i, 1.0) for i in chunk[self.processes.rank :: self.processes.count]]
        own = own or [(chunk[0], 0.0)]  # every process takes part in every step
        n = self.recipe.per_device
        return [own[i : i + n] for i in range(0, len(own), n)]

    def _train_step(self, batches: Iterator[PairBatch | StateBatch], pieces: int, size: int, tally: Tally) -> None:
        # Dropout follows from the step alone, so that a resumed run draws what an unbroken one would.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step * self.processes.count + self.processes.rank)
        self._schedule()
        self.module.train()
        for piece in range(1, pieces + 1):
            batch = next(batches)
            self.unreadable.update(batch.unreadable)
            batch = batch.to(self.processes.device)
            synchronised = nullcontext() if piece == pieces else self.processes.unsynchronised(self._wrapped)
            with synchronised, self._autocast():
                rewards = self._wrapped(batch)
                losses = pair_losses(rewards, batch.target)
                loss = (losses * batch.weight).sum() * (self.processes.count / size)
                self._scaler.scale(loss).backward()
            tally.add(rewards, losses, batch)
        with interrupt_later():
            self._update()
            self.step += 1

    def _schedule(self) -> None:
        factor = learning_rate(self.step, self.steps, self.recipe.warmup)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def _update(self) -> None:
        """One optimizer step, unless a gradient is not finite: then the step is left out, and too many in a row end it."""
        self._scaler.unscale_(self.optimizer)
        limit = self.recipe.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._trained, limit)
        if torch.isfinite(norm):
            self._bad_steps = 0
            self._scaler.step(self.optimizer)
        else:
            self._bad_steps += 1
            log.warning("step %d left out: its gradient is not finite", self.step)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self._bad_steps >= PATIENCE_NAN:
            raise ImageRewardError(
                f"the gradient was not finite for {PATIENCE_NAN} steps in a row (up to step {self.step}); try a lower "
                f"learning rate, --clip-norm 1, or no AMP. The best weights so far are in {self.folder / BEST}"
            )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.amp == "no":
            return full_precision(self.processes.device)
        dtype = torch.float16 if self.recipe.amp == "fp16" else torch.bfloat16
        return mixed_precision(self.processes.device, dtype)

    # -- validation ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> Tally:
        """Loss and accuracy over all validation pairs, each process scoring its share."""
        self.module.eval()
        own = [(i, 1.0) for i in range(len(self.validation))][self.processes.rank :: self.processes.count]
        n = self.recipe.per_device * 2  # no gradients, so twice as many fit
        tally = Tally()
        for batch in self.validation.batches([own[i : i + n] for i in range(0, len(own), n)]):
            self.unreadable.update(batch.unreadable)
            batch = batch.to(self.processes.device)
            with self._autocast():
                rewards = self.module(batch)
            tally.add(rewards, pair_losses(rewards, batch.target), batch)
        total = tally.over(self.processes)
        if total.pairs == 0:
            raise ImageRewardError(
                f"not one image of the validation pairs can be read; {len(self.unreadable)} are broken"
            )
        return total

    # -- files ---------------------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach().cpu() for name, p in self.module.named_parameters() if p.requires_grad}

    def _keep_best(self) -> None:
        """The weights of the last epoch, in `best.pt`; in memory, on every process, while that file cannot be written."""
        self.best = self.history[-1]
        weights = self._weights()
        written = not self.processes.first or self._saver.attempt(BEST, lambda: save_state(weights, self.folder / BEST))
        everywhere = float(self.processes.total(torch.tensor(float(written)))) == self.processes.count
        self._best_weights = None if everywhere else {name: tensor.clone() for name, tensor in weights.items()}

    def _load_best(self) -> None:
        self.processes.wait()
        try:
            self._put(load_state(self.folder / BEST) if self._best_weights is None else self._best_weights)
        except DamagedState as error:
            log.warning("the best weights are lost, those of the last epoch are kept: %s", error)
            self.best = self.history[-1]
        self.module.eval()

    def _put(self, weights: dict[str, Tensor]) -> None:
        """Raises DamagedState, before anything is changed, for weights that are not those trained here."""
        parameters = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if {name: p.shape for name, p in parameters.items()} != {name: t.shape for name, t in weights.items()}:
            raise DamagedState(f"{self.folder} holds weights of another model, or of another share of frozen layers")
        with torch.no_grad():
            for name, tensor in weights.items():
                parameters[name].copy_(tensor)

    def _save_state(self) -> None:
        if not self.processes.first:
            return
        with interrupt_later():
            best = self._best_weights
            if best is not None and self._saver.attempt(BEST, lambda: save_state(best, self.folder / BEST)):
                self._best_weights = None
            self._saver.attempt(STATE, self._write_state)

    def _write_state(self) -> None:
        """Raises OSError. The state before this one stays beside it."""
        path, previous = self.folder / STATE, self.folder / PREVIOUS
        if path.is_file():
            replace(path, previous)
        save_state(self._state(), path)

    def _state(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.history.index(self.best) if self.best in self.history else 0,
            "unreadable": sorted(self.unreadable),
            "weights": self._weights(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "best_weights": self._best_weights,
        }

    def _go_on(self) -> bool:
        """Restores the newest state that can be read; False if there is none to begin with."""
        there = [path for path in (self.folder / STATE, self.folder / PREVIOUS) if path.is_file()]
        path, wrong = newest_readable(there, self._restore)
        if path is None and wrong:
            raise ImageRewardError(
                f"cannot go on with the training in {self.folder}: {'; '.join(wrong)}. To begin anew, "
                f"give another --output, or leave out --resume."
            )
        if path is None:
            return False
        for each in wrong:
            log.warning("%s; going on from %s, after step %d", each, path.name, self.step)
        self._expect_best()
        return True

    def _restore(self, state: dict[str, Any]) -> None:
        """Raises ImageRewardError for a state of another training, and nearly anything for a damaged one."""
        if state["fingerprint"] != self.fingerprint:
            raise ImageRewardError(
                f"{self.folder / STATE} is of another training: its data, base or settings differ; give the same call as "
                f"before, or another --output"
            )
        history = [_epoch(values) for values in state["history"]]
        step = whole_number(state["step"])
        if not 0 <= step - (len(history) - 1) * self.steps_per_epoch <= self.steps_per_epoch:
            raise ValueError(f"step {step} does not follow from {len(history)} epochs")
        self._put(state["weights"])
        restore_optimizer(self.optimizer, state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        # States of earlier versions do not say which epoch is the best.
        best = state.get("best")
        self.best = min(history, key=lambda epoch: epoch.valid_loss) if best is None else history[whole_number(best)]
        self.step, self.history = step, history
        self.unreadable = {str(name) for name in state["unreadable"]}
        self._best_weights = state.get("best_weights")

    def _expect_best(self) -> None:
        """Where the best weights are lost, the next epoch's are the best."""
        if self._best_weights is not None:
            return
        parameters = {name: p.shape for name, p in self.module.named_parameters() if p.requires_grad}
        try:
            with taking_from(self.folder / BEST):
                if {name: tensor.shape for name, tensor in load_state(self.folder / BEST).items()} != parameters:
                    raise DamagedState(f"{self.folder / BEST} holds other weights than are trained here")
        except DamagedState as error:
            log.warning("the best weights so far are lost, those of the next epoch count: %s", error)
            self.best = None


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


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _grad_scaler(*, enabled: bool) -> Any:
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)  # torch before 2.3


def _epoch(values: dict[str, Any]) -> Epoch:
    """Raises TypeError or ValueError for what is no line of a history."""
    epoch = Epoch(**values)
    whole_number(epoch.epoch)
    float(epoch.valid_loss)
    return epoch
