"""One training run inside ComfyUI: the loop of `core.refl` on the host's networks, with its progress bar and its Interrupt."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...core.errors import ImageRewardError
from ...core.files.console import counted
from ...core.refl.config import NO_SCORER, ReflConfig
from ...core.refl.data import RunInputs
from ...core.refl.guard import SWEEP, Evaluation
from ...core.refl.loop import ReflTrainer
from ...core.refl.lora import Lora
from ...core.refl.lora_files import save_lora
from ...core.refl.observers import Observer
from ...core.refl.result import ReflResult
from ...core.refl.tuning import LoraTuning
from ...core.scorers.loading import load_scorer
from ..hosting import RewardModel, host
from ..pictures import to_picture
from .autograd_probe import expect_gradients
from .conditioning import Conditioning
from .generator import ComfyGenerator
from .memory import explained_memory, hold, training_mode

log = logging.getLogger("ImageReward")
ADVICE = (
    "lower 'resolution' or 'batch_size' (raise 'accumulation' instead), set 'gradient_steps' to 1, leave "
    "'gradient_checkpointing' on, set 'dtype' to bf16, or load the reward model in fp16"
)
_NAMES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
HELD_OUT = "technical"  # where none is connected, unless it is in the reward: it needs no file


@dataclass(frozen=True)
class Job:
    """What is trained, by what, how."""

    model: ModelPatcher
    clip: Any
    vae: Any
    reward: RewardModel
    held_out: Sequence[RewardModel]
    negative: Conditioning | None
    config: ReflConfig
    dtype: torch.dtype | None  # what the network computes in; None: what ComfyUI chose


def train(job: Job, rescue: Path) -> ReflResult:
    """Run to the end. If anything stops it after the first update, the LoRA so far is written to `rescue`.

    The result's LoRA is on the CPU. MODEL, CLIP and VAE are afterwards as they were, whatever happened.
    """
    inputs, held_out = RunInputs.read(job.config), _held_out(job)
    with training_mode(), job.reward.scorer.lock, explained_memory(ADVICE):
        progress = Progress(job.config)
        generator = ComfyGenerator(
            job.model,
            job.clip,
            job.vae,
            negative=job.negative,
            dtype=job.dtype,
            rewards=[job.reward, *held_out],
            on_rollout=progress.rollout,
        )
        if generator.family.experimental:
            log.warning(
                "ImageReward: training %s is experimental; compare pictures with and without the LoRA",
                generator.family.name,
            )
        config = job.config.but(
            model=type(job.model.model).__name__,
            dtype=_NAMES.get(generator.computes_in, "float32"),
            held_out=tuple(one.scorer.info.name for one in held_out) or NO_SCORER,
        )
        try:
            hold(job.reward.patchers, 0)  # the trainer begins with a gradient of the scorer
            trainer = ReflTrainer(
                generator,
                job.reward.scorer,
                config,
                held_out=[one.scorer for one in held_out],
                observers=[progress],
                inputs=inputs,
            )
            return _train(generator, trainer, rescue)
        finally:
            generator.close()


def _train(generator: ComfyGenerator, trainer: ReflTrainer, rescue: Path) -> ReflResult:
    assert isinstance(trainer.tuning, LoraTuning)  # nothing else is offered by the node
    lora = trainer.tuning.lora
    try:
        expect_gradients(generator, lora, trainer.sampling, trainer.prompts[0], trainer.config.stop_window[0])
        return trainer.train()
    except BaseException:
        _rescue(trainer, lora, rescue)
        raise
    finally:
        trainer.tuning.detach()
        lora.requires_grad_(False).to("cpu")


def _held_out(job: Job) -> Sequence[RewardModel]:
    """What is connected, else the technical scorer; none where that is in the reward, as no other comes without a file."""
    if job.held_out:
        return job.held_out
    scorer = job.reward.scorer
    if HELD_OUT in (one.info.name for one in (scorer, *scorer.members)):
        log.warning(
            "ImageReward: no held-out scorer watches this run: '%s' is in the reward. Connect another to 'held_out'",
            HELD_OUT,
        )
        return ()
    return (host(load_scorer(HELD_OUT, device="cpu"), torch.device("cpu")),)


def _rescue(trainer: ReflTrainer, lora: Lora, path: Path) -> None:
    if not trainer.update:
        return
    note = f"weights after {trainer.update} of {counted(trainer.config.steps, 'update')}, when the run was stopped"
    try:
        written = save_lora(lora, path, trainer.lora_record(None, note))
    except (OSError, ImageRewardError) as error:
        log.error("ImageReward: the LoRA so far could not be saved: %s", error)
    else:
        log.info("ImageReward: stopped after %d updates; the LoRA so far is %s", trainer.update, written)


class Progress(Observer):
    """ComfyUI's progress bar, one tick a picture, with the last picture as its preview."""

    PREVIEW = 512  # pixels

    def __init__(self, config: ReflConfig) -> None:
        rounds = -(-config.steps // config.evaluate_every) + 1
        pictures = config.evaluation_images * (rounds + (len(SWEEP) - 1) * config.sweep)
        self.total = config.steps * config.accumulation * config.batch_size + pictures
        self.done, self.steps = 0, config.steps
        self.bar = comfy.utils.ProgressBar(self.total)

    def rollout(self, pictures: int) -> None:
        self.done = min(self.done + pictures, self.total)
        self.bar.update_absolute(self.done, self.total)

    def on_update(self, record: Mapping[str, Any], pixels: Tensor) -> None:
        log.info(
            "ImageReward ReFL %d/%d: reward %+.4f, loss %.3e, %.1f s",
            record["update"],
            self.steps,
            record["reward"],
            record["loss"],
            record["seconds"],
        )
        self._show(pixels)

    def on_evaluation(self, evaluation: Evaluation, pixels: Tensor) -> None:
        log.info(
            "ImageReward ReFL: after %d updates at strength %.1f: %s",
            evaluation.update,
            evaluation.strength,
            evaluation.in_words(),
        )
        self._show(pixels.float() / 255)

    def on_message(self, text: str) -> None:
        log.info("ImageReward ReFL: %s", text)

    def _show(self, pixels: Tensor) -> None:
        self.bar.update_absolute(self.done, self.total, ("JPEG", to_picture(pixels[0].float().cpu()), self.PREVIEW))
        model_management.throw_exception_if_processing_interrupted()
