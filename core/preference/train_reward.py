"""From human preferences to a scorer: the data, the base, the loop, and the checkpoint that every door loads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ImageRewardError
from ..files.atomic import remove
from ..files.console import counted
from ..files.writable import expect_writable_folder
from ..networks.devices import in_float64
from ..networks.wordpiece import WordPiece
from ..training.backend import Backend, start_backend
from ..training.interrupts import interrupt_later
from ..training.outputs import OutputFile
from .batches import PairBatch, PromptReader
from .rankings import Pair, Ranking, data_hash, pairs_of, present
from .recipe import Recipe
from .regularise import regularise
from .reward_model import CHECKPOINT, Base, RewardHead, checkpoint_activations, export, freeze, load_base
from .score_log import scorer_identity
from .sources import PicturePairs, Source, StatePairs, items_of
from .states import cached_states, compute_states, state_pairs
from .training import Epoch, OnImages, RewardTrainer, Step

log = logging.getLogger(__name__)

STATES = "states.safetensors"
UNFINISHED = "ImageReward-unfinished.safetensors"


@dataclass(frozen=True)
class Trained:
    """A new scorer, and what it rests on."""

    path: Path
    history: list[Epoch]
    best: Epoch  # of the lowest validation loss; epoch 0 if training never improved on the base
    reward_mean: float  # of the raw reward over the training pictures; scores are standardised by them
    reward_std: float
    pairs: int
    missing: list[str]
    unreadable: list[str]


@dataclass(frozen=True)
class Unfinished:
    """What a training that broke off has left beside its checkpoint."""

    step: int
    steps: int
    path: Path | None  # a scorer like the finished one, standardised by fewer pictures; None if there is none
    best: Epoch | None  # whose weights it has; None: those of the last step, which no validation has seen
    accuracy: float  # on the validation pairs; without a validation, on the training pairs so far
    reason: str = ""  # why there is no scorer

    def __str__(self) -> str:
        stopped = f"stopped after {self.step:,} of {counted(self.steps, 'step')}"
        if self.path is None:
            return f"{stopped}; no scorer could be written: {self.reason}"
        accuracy = f"{100 * self.accuracy:.1f}%"
        if self.best is None:
            weights = f"of the last step, not yet validated (accuracy on the training pairs so far {accuracy})"
        else:
            name = f"epoch {self.best.epoch}" if self.best.epoch else "the base, which no epoch has improved on"
            weights = f"that are best so far: {name} (validation accuracy {accuracy})"
        return f"{stopped}; {self.path} is a scorer with the weights {weights}"


class HeadModel(nn.Module):
    """The head alone, on cached states."""

    def __init__(self, mlp: RewardHead) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, batch: PairBatch[Tensor]) -> Tensor:
        """N states, B comparisons -> (B, 2) raw rewards."""
        return batch.paired(self.mlp(batch.images.float())[..., 0])


class _Prepared(NamedTuple):
    """What is trained, and the pairs to train and to validate it on."""

    module: nn.Module
    training: Source[Any]
    validation: Source[Any]
    unreadable: set[str]


class _Data(NamedTuple):
    training: list[Pair]
    validation: list[Pair]
    missing: list[str]
    digest: str


def train_reward_model(
    training: Sequence[Ranking],
    validation: Sequence[Ranking],
    base: str,
    folder: Path,
    recipe: Recipe | None = None,
    *,
    backend: Backend | None = None,
    fresh_head: bool = False,
    workers: int = 0,
    resume: bool = False,
    save_steps: int = 0,
    on_step: Callable[[Step], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_images: OnImages | None = None,
    on_unfinished: Callable[[Unfinished], None] | None = None,
) -> Trained | None:
    """Trains a reward model and writes `ImageReward.safetensors` and `vocab.txt` into `folder`.

    Any exception, Ctrl-C included, first leaves a checkpoint and `ImageReward-unfinished.safetensors`: what is best so far.

    Args:
        training: the rankings to train on.
        validation: the rankings that choose the best epoch.
        base: a BLIP or ImageReward checkpoint, or a scorer's name.
        folder: where the scorer, the history and the checkpoints go; it is made.
        recipe: the reference's by default.
        backend: where to compute; by default the fastest device, or the processes that were started together.
        fresh_head: begin with a new head, whatever the base has.
        workers: processes that read pictures; 0 reads them in this one.
        resume: go on with the training in `folder`.
        save_steps: updates between two checkpoints; 0 saves after each epoch alone.
        on_step: called after each step; what it raises stops the run, as it does from the next two.
        on_epoch: called after each epoch.
        on_images: called with ("states", "validate" or "standardise", done, total) while images are run besides the steps.
        on_unfinished: called with what a run that breaks off has left; by default it is logged.

    Returns:
        The new scorer and what it rests on; None in every process but the first.

    Raises:
        ImageRewardError: nothing is left to train on, or `folder` holds another training. After an interruption `resume`
            goes on.
    """
    recipe = recipe or Recipe()
    backend = backend or start_backend()
    if recipe.head_only and backend.world > 1:
        raise ImageRewardError("training the head alone takes seconds; start it without accelerate or torchrun")
    if backend.first:
        expect_writable_folder(folder)
    start = load_base(base, backend.device, fresh_head=fresh_head, seed=recipe.seed)
    reader = PromptReader(WordPiece(start.vocabulary), recipe.long_prompts)
    data = _data(training, validation, recipe, reader)
    prepared = _prepared(start, data, reader, recipe, folder, backend, base, workers, _named(on_images, "states"))
    trainer = RewardTrainer(
        prepared.module,
        prepared.training,
        prepared.validation,
        recipe,
        folder,
        backend,
        fingerprint=f"{recipe.as_json()} {data.digest} {start.name}",
        save_steps=save_steps,
        on_step=on_step,
        on_epoch=on_epoch,
        on_images=on_images,
    )
    if resume:
        trainer.go_on()
    elif backend.first:
        _expect_room(trainer, start)
    try:
        history = trainer.train()
        trainer.unreadable = backend.union(trainer.unreadable | prepared.unreadable)
        if not backend.first:
            return None
        rewards = _training_rewards(trainer, start, data, reader, workers, _named(on_images, "standardise"))
        return _finished(trainer, start, data, history, rewards)
    except BaseException:
        if backend.first and trainer.update:
            with interrupt_later():
                (on_unfinished or _log_unfinished)(_leave_unfinished(trainer, start, data))
        raise


def _data(training: Sequence[Ranking], validation: Sequence[Ranking], recipe: Recipe, reader: PromptReader) -> _Data:
    """Pairs to train and to validate on; validation never counts ties."""
    train, valid = present(training), present(validation)
    missing = sorted({*train.missing, *valid.missing})
    pairs = pairs_of(train.rankings, ties=recipe.ties == "half")
    kept = [pair for pair in pairs if not reader.leaves_out(pair.prompt)]
    held = [pair for pair in pairs_of(valid.rankings) if not reader.leaves_out(pair.prompt)]
    for what, chosen in (("train", kept), ("validate", held)):
        if not chosen:
            raise ImageRewardError(
                f"no pair is left to {what} on: {len(missing)} image files are missing"
                + (f", the first is {missing[0]}; is --images right?" if missing else "; are all of them ties?")
            )
    return _Data(kept, held, missing, data_hash(training))


def _prepared(
    start: Base,
    data: _Data,
    reader: PromptReader,
    recipe: Recipe,
    folder: Path,
    backend: Backend,
    base: str,
    workers: int,
    on_progress: Callable[[int, int], None] | None,
) -> _Prepared:
    model = start.model
    if not recipe.head_only:
        freeze(model, recipe.frozen)
        regularise(model, dropout=recipe.dropout, drop_path=recipe.drop_path)
        if recipe.gradient_checkpointing:
            checkpoint_activations(model)
        size = model.image_size
        training, validation = (PicturePairs(p, size, reader, workers) for p in (data.training, data.validation))
        return _Prepared(model, training, validation, unreadable=set())
    items = items_of([*data.training, *data.validation])
    states = cached_states(
        folder / STATES,
        f"{scorer_identity(base)} {recipe.long_prompts}",
        items,
        lambda: compute_states(model, items, reader, device=backend.device, workers=workers, on_progress=on_progress),
    )
    model.mlp.requires_grad_(True)
    learned, held_out = (state_pairs(pairs, items, states) for pairs in (data.training, data.validation))
    if not len(learned) or not len(held_out):
        raise ImageRewardError(f"no pair is left: {counted(len(states.unreadable), 'image')} cannot be read")
    return _Prepared(HeadModel(model.mlp), learned, held_out, set(states.unreadable))


def _expect_room(trainer: RewardTrainer, start: Base) -> None:
    """Room for the new scorer, for the best weights, and for two states with two averages of each weight."""
    model = sum(p.numel() for p in start.model.parameters()) + sum(t.numel() for t in start.carried.values())
    trained = sum(p.numel() for p in trainer.updates.parameters.values())
    expect_writable_folder(trainer.folder, room=4 * (model + 7 * trained))  # 4 bytes a number


def _finished(trainer: RewardTrainer, start: Base, data: _Data, history: list[Epoch], rewards: Tensor) -> Trained:
    """rewards: (N,) of the training pictures."""
    best = trainer.best or history[-1]
    mean, std = float(rewards.mean()), float(rewards.std(unbiased=False))
    if not std > 0:
        raise ImageRewardError("every training picture gets the same reward; the base or the data cannot be right")
    path = _export(start, trainer.folder, CHECKPOINT, _metadata(start, data, trainer.recipe, best, mean, std))
    for left in trainer.folder.glob(f"{Path(UNFINISHED).stem}*.safetensors"):
        with suppress(OSError):
            remove(left)
    return Trained(path, history, best, mean, std, len(data.training), data.missing, sorted(trainer.unreadable))


def _leave_unfinished(trainer: RewardTrainer, start: Base, data: _Data) -> Unfinished:
    """The scorer of what is best so far. Whatever goes wrong here must not hide what broke the training off."""
    step, steps = trainer.update, trainer.steps
    try:
        usable = trainer.usable()
        metadata = _metadata(start, data, trainer.recipe, usable.best, usable.reward_mean, usable.reward_std)
        metadata["unfinished"] = f"stopped after {step} of {counted(steps, 'step')}"
        path = _export(start, trainer.folder, UNFINISHED, metadata)
    except Exception as error:
        return Unfinished(step, steps, None, None, float("nan"), reason=str(error))
    return Unfinished(step, steps, path, usable.best, usable.accuracy)


def _log_unfinished(left: Unfinished) -> None:
    log.warning("%s", left)


def _named(on_images: OnImages | None, what: str) -> Callable[[int, int], None] | None:
    return None if on_images is None else partial(on_images, what)


def _export(start: Base, folder: Path, name: str, metadata: dict[str, str]) -> Path:
    """Where the new scorer went: beside its proper place if another program holds that."""
    file = OutputFile(folder / name)
    path = file.write(lambda path: export(start, folder, metadata, path.name))
    if path != file.path:
        log.warning("%s cannot be replaced, perhaps because a program has it loaded: the scorer is %s", file.path, path)
    return path


@torch.no_grad()
def _training_rewards(
    trainer: RewardTrainer,
    start: Base,
    data: _Data,
    reader: PromptReader,
    workers: int,
    on_progress: Callable[[int, int], None] | None,
) -> Tensor:
    """(N,) float64 raw rewards of every training picture that can be read."""
    model, source = start.model.eval(), trainer.training
    if isinstance(source, StatePairs):
        rows = source.states[sorted({*source.better, *source.worse})]
    else:
        device = trainer.backend.device
        items = items_of(data.training)
        states = compute_states(model, items, reader, device=device, workers=workers, on_progress=on_progress)
        trainer.unreadable.update(states.unreadable)
        rows = states.rows[states.readable]
    return in_float64(model.head(rows.to(trainer.backend.device)))


def _metadata(start: Base, data: _Data, recipe: Recipe, best: Epoch | None, mean: float, std: float) -> dict[str, str]:
    """best: None for weights that no validation has seen."""
    validated = {} if best is None else {
        "validation_accuracy": repr(best.valid_accuracy),
        "validation_loss": repr(best.valid_loss),
        "epoch": str(best.epoch),
    }  # fmt: skip
    return {
        "format": "pt",
        "reward_mean": repr(mean),
        "reward_std": repr(std),
        "base": start.name,
        "data_sha256": data.digest,
        "training_pairs": str(len(data.training)),
        "validation_pairs": str(len(data.validation)),
        **validated,
        "recipe": recipe.as_json(),
    }
