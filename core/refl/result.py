"""What a run leaves in the hands of its caller."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from .guard import Evaluation
from .lora import Lora


@dataclass
class ReflResult:
    """The generator's network still draws with the tuned weights."""

    updates: int
    ended: str
    """"finished", or "early_stopped" when the guard stopped the run."""
    records: list[dict[str, Any]]
    """One per update: reward, loss, gradient_norm, learning_rate, seconds, ..."""
    evaluations: list[Evaluation]
    best: Evaluation | None
    sweep: list[Evaluation]
    recommended_strength: float | None
    reason: str
    before: Tensor | None
    """Pictures of the untuned model, (N, 3, H, W) uint8; same prompts and noises as `after`."""
    after: Tensor | None
    prompts: list[str]
    """Prompts of these pictures."""
    lora: Lora | None
    files: list[Path] = field(default_factory=list)
