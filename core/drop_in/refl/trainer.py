"""What the reference's three trainers are to their callers."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, ClassVar

from .settings import settings_of


class ReferenceTrainer:
    """`Trainer(model, data, args).train(args)`: tunes a Stable Diffusion as the reference's trainer of this kind does.

    model: a Hub id or a diffusers folder. data: a JSON file with the prompts under `--caption_column`, unless
    `--dataset_name` names a data set. In the end `--output_dir` holds the tuned pipeline, or the LoRA
    (`pytorch_lora_weights.safetensors`), beside the record of the run.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        pretrained_model_name_or_path: str | os.PathLike[str],
        train_data_dir: str | os.PathLike[str] | None,
        args: argparse.Namespace,
    ) -> None:
        import torch

        from ...cli.refl import prepare
        from ...refl.run_folder import RunFolder

        data = None if train_data_dir is None else os.fspath(train_data_dir)
        config = settings_of(self.kind, os.fspath(pretrained_model_name_or_path), data, args)
        resumed = bool(args.resume_from_checkpoint) and bool(RunFolder(config.output).checkpoints.paths())
        if resumed:
            config = RunFolder(config.output).config().but(steps=config.steps)
        if args.allow_tf32:
            torch.backends.cuda.matmul.allow_tf32 = True
        self.trainer = prepare(config, resume=resumed)

    @property
    def unet(self) -> Any:
        """The network that is tuned."""
        return self.trainer.generator.network

    @property
    def reward_model(self) -> Any:
        """The scorer that it is tuned with."""
        return self.trainer.scorer

    def train(self, args: argparse.Namespace | None = None) -> None:
        """Run to the end; `args` are those that the trainer was made with."""
        self.trainer.train()
        config = self.trainer.config
        if config.tune == "full" and self.trainer.backend.first:
            generator: Any = self.trainer.generator
            generator.save(Path(config.output))
