"""The reference's options as settings of our trainer; what would change the result and cannot be had is refused."""

from __future__ import annotations

import argparse
import math
import os
import random
from pathlib import Path
from typing import Any

from ...errors import ImageRewardError
from ...refl.config import ReflConfig, preset
from ...refl.data import read_records

_PRESETS = {"sd1": "sd1-full", "sdxl": "sdxl-full", "sdxl_lora": "sdxl-lora"}
_SCHEDULES = {"constant": "constant", "constant_with_warmup": "constant", "linear": "linear", "cosine": "cosine"}
_TYPES = {None: "float32", "no": "float32", "fp16": "float16", "bf16": "bfloat16"}
_TRACKERS = {None: "none", "none": "none", "tensorboard": "tensorboard", "wandb": "wandb"}
_MODEL = "ImageReward-v1.0"
_REFUSED = {
    "revision": "download that revision into a folder and give the folder",
    "non_ema_revision": "download that revision into a folder and give the folder",
    "dataset_config_name": "save that configuration as a JSON file and give the file",
    "push_to_hub": "upload output_dir after training",
    "prediction_type": "set it in the model's scheduler_config.json",
}
_ALL_CHECKPOINTS = 1_000_000
_WEIGHTS = "pytorch_lora_weights"  # the name under which diffusers looks for a LoRA in a folder


def settings_of(kind: str, model: str, data: str | None, args: argparse.Namespace) -> ReflConfig:
    """The settings of a run that does what the reference's trainer of this kind does with `args`."""
    for name, cure in _REFUSED.items():
        if getattr(args, name, None):
            raise ImageRewardError(f"--{name} is not supported. Fix: {cure}")
    source = args.dataset_name or data
    if source is None:
        raise ValueError("Need either a dataset name or a training folder.")
    prompts = prompts_of(source, args)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    pictures = args.train_batch_size * args.gradient_accumulation_steps * world
    steps = args.max_train_steps
    if steps is None:
        batches = math.ceil(len(prompts) / (args.train_batch_size * world))
        steps = args.num_train_epochs * math.ceil(batches / args.gradient_accumulation_steps)
    precision = args.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION")
    return preset(_PRESETS[kind]).but(
        model=str(model),
        prompts=prompts,
        reward=_reward(getattr(args, "image_reward_version", _MODEL)),
        output=str(args.output_dir),
        name=_WEIGHTS,
        width=args.resolution,
        height=args.resolution,
        steps=steps,
        batch_size=args.train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        learning_rate=args.learning_rate * (pictures if args.scale_lr else 1),
        schedule=_one_of("lr_scheduler", _SCHEDULES, args.lr_scheduler),
        warmup=0 if args.lr_scheduler == "constant" else args.lr_warmup_steps,
        optimizer="adamw8bit" if args.use_8bit_adam else "adamw",
        beta1=args.adam_beta1,
        beta2=args.adam_beta2,
        epsilon=args.adam_epsilon,
        weight_decay=args.adam_weight_decay,
        clip=args.max_grad_norm,
        ema=getattr(args, "use_ema", False),
        scale=args.grad_scale,
        dtype=_one_of("mixed_precision", _TYPES, precision),
        gradient_checkpointing=args.gradient_checkpointing,
        seed=random.SystemRandom().randrange(2**31) if args.seed is None else args.seed,
        guard=False,
        checkpoint_every=args.checkpointing_steps,
        keep_checkpoints=args.checkpoints_total_limit or _ALL_CHECKPOINTS,
        tracker=_one_of("report_to", _TRACKERS, args.report_to),
        **_of_sdxl(kind, source, args),
    )


def prompts_of(source: str, args: argparse.Namespace) -> tuple[str, ...]:
    """The captions of a file or a data set, or as many of them as wanted; of several for one image, one."""
    column, chance = args.caption_column, random.Random(args.seed)
    captions = []
    for record in read_records(str(source), (column,)):
        if not isinstance(record, dict) or column not in record:
            raise ValueError(f"--caption_column value {column!r} needs to be one of the columns of {source}")
        caption = record[column]
        captions.append(caption if isinstance(caption, str) else chance.choice(caption))
    if args.max_train_samples is not None:
        chance.shuffle(captions)
    return tuple(captions[: args.max_train_samples])


def _reward(version: str) -> str:
    """The published model, or a checkpoint file."""
    return "imagereward" if version == _MODEL else version


def _of_sdxl(kind: str, source: str, args: argparse.Namespace) -> dict[str, Any]:
    if kind == "sd1":
        return {}
    if not args.apply_reward_loss:
        raise ImageRewardError("without --apply_reward_loss nothing is learned from the reward. Fix: add that option")
    own: dict[str, Any] = {"snr_gamma": getattr(args, "snr_gamma", None)}
    if kind == "sdxl_lora":
        own |= {"lora_rank": args.rank, "lora_alpha": float(args.rank)}
    if args.apply_pre_loss:
        if Path(args.image_base_dir or ".").resolve() != Path(source).parent.resolve():
            raise ImageRewardError(
                f"--apply_pre_loss reads its images from the folder of {source}, and --image_base_dir is "
                f"{args.image_base_dir!r}. Fix: put the data file into the images' folder and give it as --image_base_dir"
            )
        own["pretraining_data"] = str(source)
    return own


def _one_of(option: str, known: dict[Any, str], value: Any) -> str:
    if value not in known:
        choices = ", ".join(str(each) for each in known if each is not None)
        raise ImageRewardError(f"--{option} {value} is not supported. Fix: take one of {choices}")
    return known[value]
