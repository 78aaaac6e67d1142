"""The training loop of reward feedback learning, for any generator, any scorer, one process or many."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ImageRewardError
from ..scorers.base import Scorer
from ..training.backend import Backend, SingleProcess
from ..training.ema import Ema
from ..training.interrupts import interrupt_later
from ..training.optimisers import learning_rate, make_optimizer, set_learning_rate
from ..training.outputs import OutputFile, Saver
from ..training.states import DamagedState, load_state, restore_optimizer, save_state, taking_from, whole_number
from .checkpoints import RunFolder
from .checks import check_scorers, sampling_of
from .config import ReflConfig
from .data import RunInputs
from .evaluator import Evaluator
from .generator import Generator
from .gradients import Gradients
from .guard import SWEEP, Evaluation, Guard
from .lora_files import LoraRecord, write_lora
from .observers import Observer
from .result import ReflResult
from .tuning import LoraTuning, tuning_of

NANS_IN_A_ROW = 10


class ReflTrainer:
    """Tunes a generator with a scorer: `ReflTrainer(generator, scorer, config).train()`.

    With `config.output` empty nothing is written: hosts keep the result in memory and save in their own way.
    The scorers are those given here, whatever the config calls them. inputs: `RunInputs.read(config)`, if that was done.
    """

    def __init__(
        self,
        generator: Generator,
        scorer: Scorer,
        config: ReflConfig,
        *,
        held_out: Scorer | None = None,
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
        if config.guard and held_out is None:
            raise ImageRewardError(
                "the guard needs a held-out scorer: pass held_out=load_scorer('technical'), or set guard: false"
            )
        check_scorers(scorer, held_out)
        self.generator, self.scorer, self.config = generator, scorer, config
        self.backend = backend or SingleProcess(config.dtype, generator.device)
        self.observers = list(observers)
        self.sampling = sampling_of(generator, config)
        self.guard = Guard(config.patience, config.tolerance)
        self.update, self.nans = 0, 0
        self.ema: Ema | None = None
        self.records: list[dict[str, Any]] = []
        self.pictures: dict[str, Tensor] = {}
        self._best: dict[str, Tensor] | None = None  # the best weights, while they are in no file
        self._saver = Saver(self._say)
        self._untold: list[str] = []  # from before anybody listens
        scorer.network.requires_grad_(False)
        self.tuning = tuning_of(generator, config)
        self.gradients = Gradients(
            generator, scorer, self.tuning, self.backend, config, self.sampling, self.prompts, inputs.captioned
        )
        self.evaluator = (
            Evaluator(generator, scorer, held_out, self.sampling, self.evaluation_prompts, config.seed, self.backend)
            if held_out is not None
            else None
        )
        self._set_up(resume)

    # the run

    def train(self) -> ReflResult:
        """Run to the end. Any exception, Ctrl-C included, first writes a checkpoint and a usable LoRA, then goes on its way."""
        try:
            for text in (*self._untold, self._share_out()):
                self._say(text)
            try:
                ended = self._run()
            finally:
                self._save()
            sweep, strength, reason = self._conclude()
        finally:
            for observer in self.observers:
                observer.close()
        return self._result(ended, sweep, strength, reason)

    def _run(self) -> str:
        while True:
            if self._evaluation_is_due():
                self._evaluate()
            if self.config.guard and self.guard.should_stop:
                self._say(
                    f"stopped after {self.update} updates: the reward rose while the held-out score fell for "
                    f"{self.config.patience} evaluations in a row"
                )
                return "early_stopped"
            if self.update >= self.config.steps:
                return "finished"
            self._one_update()
            if self.config.checkpoint_every and self.update % self.config.checkpoint_every == 0:
                self._save()

    def _evaluation_is_due(self) -> bool:
        if not self.config.guard:
            return False
        made = self.guard.evaluations and self.guard.evaluations[-1].update == self.update
        return not made and (self.update % self.config.evaluate_every == 0 or self.update >= self.config.steps)

    def _one_update(self) -> None:
        began = time.perf_counter()
        rate = learning_rate(self.config, self.update)
        set_learning_rate(self.optimizer, rate)
        sums, pixels = self.gradients.of_update(self.update)
        means = self.backend.mean(sums)
        norm = self.backend.clip(self._trained, self.optimizer, self.config.clip)
        sound = bool(torch.isfinite(means).all()) and (math.isfinite(float(norm)) or self.backend.scales)
        with interrupt_later():
            if sound:
                self.backend.step(self.optimizer)
                if self.ema is not None:
                    self.ema.update()
            else:
                self.backend.skip(self.optimizer)
            self.optimizer.zero_grad(set_to_none=True)
            self.update += 1
        self._count_nans(sound)
        reward, reward_loss, prior, pretraining = means.tolist()
        record = {
            "update": self.update,
            "reward": reward,
            "loss": reward_loss + self.config.prior_weight * prior + self.config.pretraining_weight * pretraining,
            "reward_loss": reward_loss,
            "prior_loss": prior,
            "pretraining_loss": pretraining,
            "gradient_norm": float(norm),
            "learning_rate": rate,
            "seconds": time.perf_counter() - began,
            "skipped": not sound,
        }
        self.records.append(record)
        if self.folder is not None and self.backend.rank == 0:
            metrics = self.folder.metrics
            self._saver.attempt(metrics.path.name, lambda: metrics.add(record))
        for observer in self.observers:
            observer.on_update(record, pixels)

    def _count_nans(self, sound: bool) -> None:
        self.nans = 0 if sound else self.nans + 1
        if not sound:
            self._say(f"update {self.update} skipped: its loss or gradient is not a number ({self.nans} in a row)")
        if self.nans >= NANS_IN_A_ROW:
            raise ImageRewardError(
                f"{NANS_IN_A_ROW} updates in a row gave NaN: lower the learning rate (now {self.config.learning_rate:g}), "
                f"or take a wider type (dtype: bfloat16 or float32; now {self.config.dtype}). The weights before them are saved"
            )

    # the guard

    def _evaluate(self, strength: float = 1.0) -> Evaluation:
        """Draw the fixed pictures, score them, record the result."""
        assert self.evaluator is not None
        if not self.guard.evaluations:
            self._say(f"drawing {self._fixed_pictures} of the untuned model, to compare with")
        with self._averaged(), self.tuning.at(strength):
            evaluation, pixels = self.evaluator.evaluate(self.update, strength)
        if strength == 1:
            self._record(evaluation, pixels)
        for observer in self.observers:
            observer.on_evaluation(evaluation, pixels)
        return evaluation

    def _share_out(self) -> str:
        batch, accumulation, world = self.config.batch_size, self.config.accumulation, self.backend.world
        where = "one process" if world == 1 else f"{world} processes"
        return (
            f"{batch * accumulation * world} pictures an update (batch {batch} x accumulation {accumulation}, {where})"
        )

    @property
    def _fixed_pictures(self) -> str:
        count = len(self.evaluation_prompts)
        return f"{count} fixed {'picture' if count == 1 else 'pictures'}"

    def _record(self, evaluation: Evaluation, pixels: Tensor) -> None:
        first = not self.guard.evaluations
        self.guard.add(evaluation)
        if first:
            self.pictures["before"] = pixels
        elif self.guard.best_tuned is evaluation:
            self.pictures["after"] = pixels
            with self._averaged():
                self._keep_best({name: tensor.cpu().clone() for name, tensor in self.tuning.state().items()})

    def _keep_best(self, state: dict[str, Tensor]) -> None:
        """In `best.pt`; in memory, on every process, where there is no folder or it takes no file now."""
        written = self.folder is not None
        if self.folder is not None and self.backend.rank == 0:
            best = self.folder.best
            written = self._saver.attempt(best.name, lambda: save_state(state, best))
        everywhere = float(self.backend.mean(torch.tensor([float(written)]))) == 1
        self._best = None if everywhere else state

    def _conclude(self) -> tuple[list[Evaluation], float | None, str]:
        """Take the best weights back, sweep the strength, write what is to be kept."""
        if self.config.guard:
            self.backend.wait()
            self._take_best()
        elif self.ema is not None:
            self.tuning.restore(self.ema.average)
        sweep, strength, reason = self._sweep()
        self._write_lora(strength, reason)
        self.backend.wait()
        return sweep, strength, reason

    def _sweep(self) -> tuple[list[Evaluation], float | None, str]:
        """Evaluations of the LoRA at several strengths, the one to recommend, and why it, or why none."""
        if not self.config.guard:
            return [], None, "the guard was off"
        if not isinstance(self.tuning, LoraTuning):
            return [], None, "only a LoRA has a strength"
        if not self.config.sweep:
            return [], None, "the strength was not swept"
        self._saver.attempt("the LoRA", lambda: self._write_lora(None, "strength not yet swept"))
        self._say(f"drawing {self._fixed_pictures} at each of {len(SWEEP) - 1} strengths, to recommend one")
        sweep = [self._evaluate(each) for each in SWEEP[:-1]] + [self.guard.best_tuned or self.guard.untuned]
        strength, reason = self.guard.recommend(sweep)
        self._say(f"recommended strength {strength:.1f}: {reason}")
        return sweep, strength, reason

    def _take_best(self) -> None:
        if self.guard.best_tuned is None:
            return
        try:
            self.tuning.restore(self._read_best())
        except DamagedState as error:
            self._say(f"the best weights are lost, the run ends with those of now: {error}")
            self.guard.forget_tuned()
            self._evaluate()
            self.tuning.restore(self._read_best())
        self.ema = None  # the best weights are averages already

    def _read_best(self) -> dict[str, Tensor]:
        if self._best is not None or self.folder is None:
            assert self._best is not None
            return self._best
        return load_state(self.folder.best)

    # setting up, saving, going on

    def _set_up(self, resume: bool) -> None:
        self.generator.gradient_checkpointing(self.config.gradient_checkpointing)
        self._trained = list(self.tuning.parameters().values())
        self.ema = Ema(self.tuning.parameters(), self.config.ema_decay) if self.config.ema else None
        self.optimizer = self.backend.prepare(self.generator, make_optimizer(self._trained, self.config))
        if self.folder is not None and resume:
            self._go_on(self.folder)
        if self.folder is not None and self.backend.rank == 0:
            self.folder.claim(self.config)
        used, evaluated = self.gradients.used_prompts(), self.evaluation_prompts if self.config.guard else []
        self.generator.precompute_embeddings(list(dict.fromkeys([*used, *evaluated, self.config.negative_prompt])))
        self.backend.wait()

    def _state(self) -> dict[str, Any]:
        return {
            "update": self.update,
            "nans": self.nans,
            "tuned": {name: tensor.cpu() for name, tensor in self.tuning.state().items()},
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state() if self.ema is not None else None,
            "backend": self.backend.state(),
            "guard": self.guard.state(),
            "pictures": self.pictures,
            "rng": torch.get_rng_state(),
            "best": self._best,
            "config": self.config.plain(),
        }

    def _go_on(self, folder: RunFolder) -> None:
        """From the newest checkpoint that can be used."""
        for wrong in folder.restore_latest(self._restore):
            self._untold.append(f"{wrong}; going on from the checkpoint before it, after {self.update} updates")
        records, unreadable = folder.records()
        self.records = [record for record in records if record["update"] <= self.update]
        if unreadable:
            self._untold.append(f"{unreadable} lines of {folder.metrics.path} cannot be read and are left out")
        self._expect_best(folder)
        self.backend.wait()  # until every process has read what is changed now
        if self.backend.rank == 0:
            folder.set_aside(after=self.update)
            self._saver.attempt(folder.metrics.path.name, lambda: folder.metrics.rewrite(self.records))

    def _expect_best(self, folder: RunFolder) -> None:
        """Evaluations whose weights are lost must not stand against new ones."""
        if self.guard.best_tuned is None or self._best is not None:
            return
        try:
            with taking_from(folder.best):
                self.tuning.expect(load_state(folder.best))
        except DamagedState as error:
            self._untold.append(f"the best weights so far are lost, those of the next evaluation count: {error}")
            self.guard.forget_tuned()

    def _restore(self, state: dict[str, Any]) -> None:
        """Raises ImageRewardError for a checkpoint of another run or model, and nearly anything for a damaged one."""
        update = whole_number(state["update"])
        if update > self.config.steps:
            raise ImageRewardError(
                f"the run has already made {update} updates, and steps is {self.config.steps}: "
                f"give at least {update} to go on"
            )
        self.update, self.nans = update, whole_number(state["nans"])
        self.tuning.restore(state["tuned"])
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.ema is not None:
            self.ema.restore(state["ema"])
        self.backend.restore(state["backend"])
        self.guard.restore(state["guard"], len(self.evaluation_prompts))
        self.pictures = _pictures(state["pictures"])
        self._best = state.get("best")  # of later versions than the rest
        if self._best is not None:
            self.tuning.expect(self._best)
        torch.set_rng_state(state["rng"])

    def _save(self) -> None:
        """A checkpoint and the LoRA of now; what cannot be written is said and does not end the run."""
        if self.folder is None or self.backend.rank != 0:
            return
        folder = self.folder
        with interrupt_later():
            best = self._best
            if best is not None and self._saver.attempt(folder.best.name, lambda: save_state(best, folder.best)):
                self._best = None
            self._saver.attempt(
                "the checkpoint", lambda: folder.save(self.update, self._state(), self.config.keep_checkpoints)
            )
            with self._averaged():
                note = f"weights after {self.update} of {self.config.steps} updates, not the run's choice"
                self._saver.attempt("the LoRA", lambda: self._write_lora(None, note))

    def _write_lora(self, strength: float | None, note: str) -> None:
        """Raises OSError where neither its name nor a numbered one beside it can be written."""
        if self.folder is None or self.backend.rank != 0 or not isinstance(self.tuning, LoraTuning):
            return
        lora, record = self.tuning.lora, self.lora_record(strength, note)
        before = self._lora_file.written
        path = self._lora_file.write(lambda path: write_lora(lora, path, record))
        if path not in (self.lora_path, before):
            self._say(
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
            recommended_strength=strength,
            note=note,
        )

    def _averaged(self) -> AbstractContextManager[None]:
        return self.ema.applied() if self.ema is not None and self.ema.updates else nullcontext()

    def _say(self, text: str) -> None:
        for observer in self.observers:
            observer.on_message(text)

    def _result(self, ended: str, sweep: list[Evaluation], strength: float | None, reason: str) -> ReflResult:
        written = self._lora_file.written if self.folder is not None else None
        return ReflResult(
            updates=self.update,
            ended=ended,
            records=self.records,
            evaluations=self.guard.evaluations,
            best=self.guard.best_tuned,
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
