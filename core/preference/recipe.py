"""How a reward model is trained, as data; the defaults are the reference's."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from ..errors import ImageRewardError
from ..training.optimisers import decay
from ..training.settings import expect_kind, expect_range, plain
from .batches import LONG_PROMPTS

AMP = ("no", "bf16", "fp16")
TIES = ("skip", "half")


@dataclass(frozen=True)
class Recipe:
    """train/scripts/train_one_node.sh and train/src of THUDM/ImageReward, unless noted."""

    epochs: int = 10
    batch_size: int = 64  # pairs a step, over all processes; a few more or fewer, so that rankings stay whole
    per_device: int = 4  # at once the images of so many pairs, two a pair; the rest of a step is accumulated
    lr: float = 1e-5
    head_lr: float | None = None  # None: lr
    layer_decay: float = 1.0  # each layer below the top learns this much slower
    warmup: float = 0.0  # share of all steps
    frozen: float = 0.7  # share of each tower's layers
    head_only: bool = False  # towers as they are, their states cached
    dropout: float = 0.1  # in the text tower
    drop_path: float = 0.1  # in the last block of the image tower
    weight_decay: float = 0.0
    clip_norm: float | None = None
    amp: str = "no"
    gradient_checkpointing: bool = False
    ties: str = "skip"  # "half": people saw no difference, so neither should the model
    long_prompts: str = "cut"
    seed: int = 1234

    def __post_init__(self) -> None:
        for each in fields(self):
            expect_kind(each, getattr(self, each.name))
        for name, allowed in (("amp", AMP), ("ties", TIES), ("long_prompts", LONG_PROMPTS)):
            if getattr(self, name) not in allowed:
                raise ImageRewardError(f"expected {name} of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "per_device"):
            expect_range(name, getattr(self, name), 1)
        for name in ("lr", "head_lr", "layer_decay", "clip_norm"):
            if getattr(self, name) is not None:
                expect_range(name, getattr(self, name), 0, open_low=True)
        for name in ("warmup", "frozen"):
            expect_range(name, getattr(self, name), 0, 1)
        for name in ("dropout", "drop_path"):
            expect_range(name, getattr(self, name), 0, 1, open_high=True)
        expect_range("weight_decay", self.weight_decay, 0)

    def as_json(self) -> str:
        return json.dumps({each.name: plain(getattr(self, each.name)) for each in fields(self)}, sort_keys=True)


# A few hundred comparisons on a CPU: the towers stay, their states are cached, and an epoch takes a second.
HEAD_ONLY = Recipe(epochs=30, batch_size=32, per_device=32, lr=3e-4, frozen=1.0, head_only=True)


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """The factor at `step` of `steps`: a linear rise, then half a cosine to zero (`AnnealingLR` of the reference)."""
    rise = warmup * steps
    return step / rise if step < rise else decay("cosine", step - rise, steps - rise)
