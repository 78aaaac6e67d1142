"""The options of the reference's trainers: their names, types and defaults."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

KINDS = ("sd1", "sdxl", "sdxl_lora")

# What all three have.
_NUMBERS: dict[str, Any] = {
    "grad_scale": 1e-3,
    "num_train_epochs": 100,
    "dataloader_num_workers": 0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_weight_decay": 1e-2,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "local_rank": -1,
}
_TEXTS: dict[str, Any] = {
    "revision": None,
    "dataset_name": None,
    "dataset_config_name": None,
    "image_column": "image",
    "caption_column": "text",
    "cache_dir": None,
    "lr_scheduler": "constant",
    "hub_token": None,
    "logging_dir": "logs",
    "report_to": "tensorboard",
    "resume_from_checkpoint": None,
}
_FLAGS = (
    "center_crop", "random_flip", "gradient_checkpointing", "scale_lr", "use_8bit_adam", "allow_tf32",
    "enable_xformers_memory_efficient_attention",
)  # fmt: skip
_WITHOUT_DEFAULT = {"max_train_samples": int, "seed": int}

# What they have with other defaults, or some of them alone: sd1, sdxl, sdxl_lora; `...` where one has it not.
_OWN: dict[str, tuple[Any, Any, Any]] = {
    "output_dir": ("checkpoint/refl", "sdxl-model-finetuned", "sdxl-model-finetuned"),
    "resolution": (512, 1024, 1024),
    "train_batch_size": (2, 16, 16),
    "gradient_accumulation_steps": (4, 1, 1),
    "learning_rate": (1e-5, 1e-4, 1e-4),
    "lr_warmup_steps": (0, 500, 500),
    "checkpointing_steps": (100, 100, 20),
    "input_pertubation": (0.0, ..., ...),
    "noise_offset": (0.0, ..., ...),
    "validation_epochs": (5, ..., ...),
    "tracker_project_name": ("text2image-refl", ..., ...),
    "image_base_dir": (..., "", ""),
    "mapping_batch_size": (..., 128, 128),
    "rank": (..., ..., 4),
    "eval_num_imgs_to_generate": (..., ..., 1),
    "id_column": (..., ..., "id"),
    "run_name": (..., ..., "text2image-refl"),
}
_OWN_FLAGS = {
    "use_ema": ("sd1", "sdxl"),
    "push_to_hub": ("sd1",),
    "apply_pre_loss": ("sdxl", "sdxl_lora"),
    "apply_reward_loss": ("sdxl", "sdxl_lora"),
    "save_only_one_ckpt": ("sdxl", "sdxl_lora"),
}
_OWN_WITHOUT_DEFAULT: dict[str, tuple[type, tuple[str, ...]]] = {
    "snr_gamma": (float, ("sd1", "sdxl_lora")),
    "non_ema_revision": (str, ("sd1",)),
    "hub_model_id": (str, ("sd1",)),
    "prediction_type": (str, ("sdxl", "sdxl_lora")),
}


def parse(kind: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line (`arguments`, or the program's) as the trainer of this kind reads it."""
    parser = argparse.ArgumentParser(
        description="ReFL with the options of ImageReward's own trainers; docs/api.md says which of them differ."
    )

    def add(name: str, **options: Any) -> None:
        parser.add_argument(f"--{name}", **options)

    for name, default in _NUMBERS.items():
        add(name, type=type(default), default=default)
    for name, default in _TEXTS.items():
        add(name, default=default)
    for name, defaults in _OWN.items():
        default = defaults[KINDS.index(kind)]
        if default is not ...:
            add(name, type=type(default), default=default)
    for name in (*_FLAGS, *(name for name, kinds in _OWN_FLAGS.items() if kind in kinds)):
        add(name, action="store_true")
    own = {name: type_ for name, (type_, kinds) in _OWN_WITHOUT_DEFAULT.items() if kind in kinds}
    for name, type_ in {**_WITHOUT_DEFAULT, **own}.items():
        add(name, type=type_)
    add("mixed_precision", choices=("no", "fp16", "bf16"))
    add("max_train_steps", type=int, default=100 if kind == "sd1" else None)
    add("checkpoints_total_limit", type=int, default=10 if kind == "sdxl_lora" else None)
    if kind != "sdxl":
        add("validation_prompts", nargs="+")
    if kind != "sd1":
        add("image_reward_version", required=True)
    args = parser.parse_args(arguments)
    args.local_rank = int(os.environ.get("LOCAL_RANK", args.local_rank))
    return args
