"""Run by test_distributed.py under torchrun: trains the toy with accelerate and leaves the tuned tensors in a file."""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import conftest  # noqa: F401 (mounts the package)
import torch
from sd_imagereward.core.refl import ReflConfig, ReflTrainer
from sd_imagereward.core.training.backend import Backend, start_backend
from toy_generator import ColourScorer, ToyGenerator

CONFIG = ReflConfig(
    prompts=("a cat", "a dog", "a fox"),
    steps=3,
    accumulation=2,
    learning_rate=1e-2,
    scale=1.0,
    epsilon=1e-3,  # Adam divides by the gradient's size: near zero it would blow the sums' rounding up to whole steps
    lora_rank=2,
    denoising_steps=4,
    stop_window=(2, 3),
    evaluate_every=2,
    evaluation_images=3,
    dtype="float32",
    prior_weight=0.1,
)


def train(batch: int, backend: Backend | None) -> dict[str, object]:
    config = CONFIG.but(batch_size=batch)
    trainer = ReflTrainer(ToyGenerator(), ColourScorer(0), config, held_out=ColourScorer(1), backend=backend)
    result = trainer.train()
    return {
        "tensors": {name: tensor.clone() for name, tensor in trainer.tuning.state().items()},
        "rewards": [record["reward"] for record in result.records],
        "evaluations": [list(each.reward) for each in result.evaluations],
    }


def threads() -> int:
    """All of this process, also those that Python does not know; 0 where the system does not tell."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 0


def note_the_end(path: str, rank: int, before: int) -> None:
    """At the interpreter's end, after whatever was registered later: what is left of the group of processes."""
    left = {"group": torch.distributed.is_initialized(), "threads": threads() - before}
    Path(f"{path}.{rank}").write_text(json.dumps(left), encoding="utf-8")


if __name__ == "__main__":
    atexit.register(note_the_end, sys.argv[1], int(os.environ["RANK"]), threads())
    backend = start_backend("cpu")
    made = train(1, backend)
    if backend.rank == 0:
        torch.save({**made, "world": backend.world}, sys.argv[1])
    backend.wait()
