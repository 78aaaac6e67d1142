"""The training loop of reward feedback learning, for any generator, any scorer, one process or many."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ImageRewardError
from ..files.console import counted
from ..scorers.base import Scorer
from ..scorers.mix import distinct_titles
from ..training.backend import Backend
from ..training.interrupts import interrupt_later
from ..training.optimisers import make_optimizer, rate_factor
from ..training.outputs import OutputFile
from ..training.trainer import Trainer
from ..training.updates import Updates
from .checks import check_scorers, evaluation_sampling_of, sampling_of
from .config import ReflConfig
from .data import RunInputs
from .evaluator import Evaluator
from .generator import Generator
from .gradients import Gradients
from .guard import ENDS, SWEEP, Evaluation, Guard
from .lora_files import LoraRecord, write_lora
from .observers import Observer
from .result import ReflResult
from .run_folder import RunFolder
from .tuning import LoraTuning, tuning_of

UNWATCHED = (
    "no held-out scorer watched the run and the reward alone chose the checkpoint, so look at the pictures before use"
)


class ReflTrainer(Trainer):
    """Tunes a generator with a scorer: `ReflTrainer(generator, scorer, config).train()`.

    With `config.output` empty nothing is written: hosts keep the result in memory and save in their own way.
    The scorers are those given here, whatever the config calls them.

    Args:
        generator: what is tuned.
        scorer: the reward; differentiable.
        config: the run's settings.
        held_out: the scorer of the guard, or several, which training does not see; None needs `held_out: none` or
            `guard: false`.
        backend: where updates are computed; by default in this process, on the generator's device.
        observers: called after each update and evaluation.
        resume: go on with the run in `config.output`.
        inputs: `RunInputs.read(config)`, if that was done.

    Raises:
        ImageRewardError: a setting, a file or a scorer cannot be used, or the folder holds another run.
    """

    def __init__(
        self,
        generator: Generator,
        scorer: Scorer,
        config: ReflConfig,
        *,
        held_out: Scorer | Sequence[Scorer] | None = None,
        backend: Backend | None = None,
        observers: Sequence[Observer] = (),
        resume: bool = False,
        inputs: RunInputs | None = None,
    ):
        inputs = inputs or RunInputs.read(config)
        self.prompts, self.evaluation_prompts = inputs.prompts, inputs.evaluation_prompts
        self.folder = RunFolder(config.output) if config.output else None
        if self.folder is not None and not resume:
            self.folder.check_free()
        others = [held_out] if isinstance(held_out, Scorer) else list(held_out or ())
        if config.guard and not others and config.held_out_scorers:
            raise ImageRewardError(
                "the guard needs a held-out scorer: pass held_out=load_scorer('technical'), or set held_out: none to go "
                "by the reward alone, or guard: false to evaluate nothing"
            )
        check_scorers(scorer, others)
        self.generator, self.scorer, self.config, self.observers = generator, scorer, config, list(observers)
        self.sampling = sampling_of(generator, config)
        self.guard = Guard(config.patience, config.tolerance)
        self.records: list[dict[str, Any]] = []
        self.pictures: dict[str, Tensor] = {}
        self._early_messages: list[str] | None = []  # until `train` is called, when all observers are there
        scorer.network.requires_grad_(False)
        generator.gradient_checkpointing(config.gradient_checkpointing)
        self.tuning = tuning_of(generator, config)
        backend = backend or Backend(generator.device)
        super().__init__(
            self._updates(backend),
            self.folder.path if self.folder is not None else None,
            steps=config.steps,
            evaluate_every=config.evaluate_every if config.guard else 0,
            save_every=config.checkpoint_every,
            keep=config.keep_checkpoints,
        )
        self.gradients = Gradients(
            generator, scorer, self.tuning, backend, config, self.sampling, self.prompts, inputs.captioned
        )
        self.evaluator = (
            Evaluator(
                generator,
                scorer,
                dict(zip(distinct_titles(others), others, strict=True)),
                evaluation_sampling_of(generator, config),
                self.evaluation_prompts,
                config.seed,
                backend,
                config.batch_size,
            )
            if config.guard
            else None
        )
        self._open_folder(resume)
        used, evaluated = self.gradients.used_prompts(), self.evaluation_prompts if config.guard else []
        generator.precompute_embeddings(list(dict.fromkeys([*used, *evaluated, config.negative_prompt])))
        backend.wait()

    def _updates(self, backend: Backend) -> Updates:
        config, parameters = self.config, self.tuning.parameters()
        updates = Updates(
            parameters,
            self.generator.network,
            make_optimizer(parameters.values(), config),
            backend,
            lambda update: rate_factor(config, update),
            clip=config.clip,
            ema_decay=config.ema_decay if config.ema else None,
            float16=config.dtype == "float16",
        )
        if backend.world > 1:
            self.generator.wrapped = updates.module
        return updates

    def _open_folder(self, resume: bool) -> None:
        folder = self.folder
        if folder is None:
            return
        if resume:
            records, unreadable = folder.records()
            if unreadable:
                self.report(f"left out of {folder.metrics.path}: {counted(unreadable, 'line')} that cannot be read")
            self.resume(
                "Start anew in another folder, with lora_from set to the LoRA file of this one if there is one."
            )
            self.records = [record for record in records if record["update"] <= self.update]
            if self.backend.first:
                self.saver.attempt(folder.metrics.path.name, lambda: folder.metrics.rewrite(self.records))
        if self.backend.first:
            folder.claim(self.config)

    # the run

    def train(self) -> ReflResult:
        """Run to the end. Any exception, Ctrl-C included, first writes a checkpoint and a usable LoRA."""
        early, self._early_messages = self._early_messages or [], None
        try:
            for text in (*early, self._share_of_work()):
                self.report(text)
            self.run()
            self.save()
            ended = self._end
            if self.should_stop:
                rows = counted(self.config.patience, "evaluation")
                fallen = self.guard.fallen(self.guard.evaluations[-1])
                which = f" (held out: {', '.join(fallen)})" if fallen else ""
                self.report(f"{ENDS[ended]} after {counted(self.update, 'update')}: {rows} in a row{which}")
            sweep, strength, reason = self._conclude()
        finally:
            for observer in self.observers:
                observer.close()
        return self._result(ended, sweep, strength, reason)

    def report(self, text: str) -> None:
        if self._early_messages is not None:
            self._early_messages.append(text)
        for observer in self.observers if self._early_messages is None else ():
            observer.on_message(text)

    def _share_of_work(self) -> str:
        batch, accumulation, world = self.config.batch_size, self.config.accumulation, self.backend.world
        where = "one process" if world == 1 else f"{world} processes"
        pictures = counted(batch * accumulation * world, "picture")
        return f"{pictures} an update (batch {batch} x accumulation {accumulation}, {where})"

    def one_update(self) -> None:
        began = time.perf_counter()
        sums, pixels = self.gradients.of_update(self.update)
        means = self.backend.mean(sums)
        update = self.apply(finite=bool(torch.isfinite(means).all()))
        reward, reward_loss, prior, pretraining = means.tolist()
        record = {
            "update": self.update,
            "reward": reward,
            "loss": reward_loss + self.config.prior_weight * prior + self.config.pretraining_weight * pretraining,
            "reward_loss": reward_loss,
            "prior_loss": prior,
            "pretraining_loss": pretraining,
            "gradient_norm": update.gradient_norm,
            "learning_rate": update.learning_rate,
            "seconds": time.perf_counter() - began,
            "skipped": not update.applied,
        }
        self.records.append(record)
        if self.folder is not None and self.backend.first:
            metrics = self.folder.metrics
            self.saver.attempt(metrics.path.name, lambda: metrics.add(record))
        for observer in self.observers:
            observer.on_update(record, pixels)

    # the guard

    @property
    def should_stop(self) -> bool:
        return self._end != "finished"

    @property
    def _end(self) -> str:
        return self.guard.end if self.config.guard else "finished"

    @property
    def evaluated_at(self) -> int | None:
        return self.guard.evaluations[-1].update if self.guard.evaluations else None

    def forget_best(self) -> None:
        self.guard.forget_tuned()

    def evaluate(self) -> None:
        """Draw the fixed pictures, score them, record the result."""
        first = not self.guard.evaluations
        if first:
            where = self.lora_record().at_which_guidance
            self.report(f"drawing {self._fixed_pictures} of the untuned model{where}, to compare with")
        evaluation, pixels = self._scores_at(1.0)
        self.guard.add(evaluation)
        if first:
            self.pictures["before"] = pixels
        elif self.guard.best_tuned is evaluation:
            self.pictures["after"] = pixels
            with self.updates.averaged():
                self.best_weights.keep(self.updates.weights())
        self._show(evaluation, pixels)

    def _scores_at(self, strength: float) -> tuple[Evaluation, Tensor]:
        assert self.evaluator is not None
        with self.updates.averaged(), self.tuning.at(strength):
            return self.evaluator.evaluate(self.update, strength)

    def _show(self, evaluation: Evaluation, pixels: Tensor) -> Evaluation:
        for observer in self.observers:
            observer.on_evaluation(evaluation, pixels)
        return evaluation

    @property
    def _fixed_pictures(self) -> str:
        count = len(self.evaluation_prompts)
        return counted(count, "fixed picture")

    def _conclude(self) -> tuple[list[Evaluation], float | None, str]:
        """Take the best weights back, sweep the strength, write what is to be kept."""
        if self.config.guard:
            if not self.take_best():
                self.evaluate()  # the weights of now become the best
                self.take_best()
        elif self.updates.ema is not None:
            self.updates.restore_weights(self.updates.ema.average)
        self.updates.ema = None  # the weights are averages already
        sweep, strength, reason = self._sweep()
        self._write_lora(strength, reason)
        self.backend.wait()
        return sweep, strength, reason

    def _sweep(self) -> tuple[list[Evaluation], float | None, str]:
        """Evaluations of the LoRA at several strengths, the one to recommend, and why it, or why none."""
        if not self.config.guard:
            return [], None, "the guard was off"
        if self.evaluator is not None and not self.evaluator.held_out:
            return [], None, UNWATCHED
        if not isinstance(self.tuning, LoraTuning):
            return [], None, "only a LoRA has a strength"
        if not self.config.sweep:
            return [], None, "the strength was not swept"
        self.saver.attempt("the LoRA", lambda: self._write_lora(None, "strength not yet swept"))
        self.report(f"drawing {self._fixed_pictures} at each of {len(SWEEP) - 1} strengths, to recommend one")
        lower = [self._show(*self._scores_at(strength)) for strength in SWEEP[:-1]]
        sweep = [*lower, self.guard.best_tuned or self.guard.untuned]
        strength, reason = self.guard.recommend(sweep)
        self.report(
            f"{'no strength is recommended' if strength is None else f'recommended strength {strength:.1f}'}: {reason}"
        )
        return sweep, strength, reason

    def _improved(self, sweep: Sequence[Evaluation]) -> bool | None:
        best = self.guard.best_tuned
        return None if best is None else any(map(self.guard.improves, (best, *sweep)))

    # saving

    def own_state(self) -> dict[str, Any]:
        return {"guard": self.guard.state(), "pictures": self.pictures, "config": self.config.plain()}

    def restore_own(self, state: dict[str, Any]) -> None:
        titles = list(self.evaluator.held_out) if self.evaluator is not None else []
        self.guard.restore(state["guard"], len(self.evaluation_prompts), titles)
        self.pictures = _pictures(state["pictures"])

    def save(self) -> None:
        """A checkpoint and the LoRA of now; what cannot be written is reported and does not end the run."""
        with interrupt_later():
            super().save()
            with self.updates.averaged():
                note = f"weights after {self.update} of {counted(self.config.steps, 'update')}, not the run's choice"
                self.saver.attempt("the LoRA", lambda: self._write_lora(None, note))

    def _write_lora(self, strength: float | None, note: str) -> None:
        """Raises OSError where neither its name nor a numbered one beside it can be written."""
        if self.folder is None or not self.backend.first or not isinstance(self.tuning, LoraTuning):
            return
        lora, record = self.tuning.lora, self.lora_record(strength, note)
        before = self._lora_file.written
        path = self._lora_file.write(lambda path: write_lora(lora, path, record))
        if path not in (self.lora_path, before):
            self.report(
                f"{self.lora_path} cannot be replaced, perhaps because a program has it loaded: the LoRA is {path}"
            )

    @property
    def name(self) -> str:
        return self.config.name or (self.folder.path.resolve().name if self.folder is not None else "refl")

    @property
    def lora_path(self) -> Path:
        assert self.folder is not None
        return self.folder.path / f"{self.name}.safetensors"

    @cached_property
    def _lora_file(self) -> OutputFile:
        return OutputFile(self.lora_path)

    def lora_record(self, strength: float | None = None, note: str = "") -> LoraRecord:
        """What a LoRA file of this run says of itself."""
        return LoraRecord(
            name=self.name,
            family=self.generator.family,
            v_prediction=self.generator.v_prediction,
            resolution=(self.sampling.width, self.sampling.height),
            base_model=self.config.model,
            reward=self.scorer.info.title,
            steps=self.update,
            learning_rate=self.config.learning_rate,
            seed=self.config.seed,
            prompts=self.prompts,
            evaluation_guidance=self.evaluator.sampling.guidance if self.evaluator is not None else None,
            recommended_strength=strength,
            note=note,
        )

    def _result(self, ended: str, sweep: list[Evaluation], strength: float | None, reason: str) -> ReflResult:
        written = self._lora_file.written if self.folder is not None else None
        return ReflResult(
            updates=self.update,
            ended=ended,
            records=self.records,
            evaluations=self.guard.evaluations,
            best=self.guard.best_tuned,
            improved=self._improved(sweep),
            sweep=sweep,
            before=self.pictures.get("before"),
            after=self.pictures.get("after"),
            prompts=self.evaluation_prompts,
            lora=self.tuning.lora if isinstance(self.tuning, LoraTuning) else None,
            record=self.lora_record(strength, reason),
            files=[written] if written is not None else [],
        )


def _pictures(values: Any) -> dict[str, Tensor]:
    """Pictures by name, (N, 3, H, W) uint8. Raises ValueError for anything else."""
    for pixels in values.values():
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"expected pictures, got {tuple(pixels.shape)} of {pixels.dtype}")
    return dict(values)
