"""What a run leaves in the hands of its caller."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ImageRewardError
from .guard import Evaluation
from .lora import Lora
from .lora_files import LoraRecord, save_lora


@dataclass
class ReflResult:
    """The generator's network still draws with the tuned weights."""

    updates: int
    ended: str  # a key of `guard.ENDS`: "finished", or how the guard stopped the run
    records: list[dict[str, Any]]  # one per update: reward, loss, gradient_norm, learning_rate, seconds
    evaluations: list[Evaluation]
    best: Evaluation | None  # the one whose weights were kept; None without a guard
    improved: bool | None  # on the untuned model, beyond noise, by the guard's rule; None without a guard
    sweep: list[Evaluation]
    before: Tensor | None  # pictures of the untuned model, (N, 3, H, W) uint8; same prompts and noises as `after`
    after: Tensor | None
    prompts: list[str]  # prompts of these pictures
    lora: Lora | None  # None when the whole network was tuned
    record: LoraRecord  # what the LoRA's file says of it
    files: list[Path] = field(default_factory=list)

    @property
    def recommended_strength(self) -> float | None:
        return self.record.recommended_strength

    @property
    def verdict(self) -> str:
        """What is to be said of a run that made nothing better, "" of any other."""
        if self.improved is not False:
            return ""
        return (
            "the tuned model is no better than the untuned one, beyond the noise of the fixed pictures: use the untuned one, "
            "or try a lower learning rate, more prompts or more fixed pictures"
        )

    @property
    def reason(self) -> str:
        """Why that strength, or why none."""
        return self.record.note

    def write_lora(self, path: Path) -> Path:
        """Write the LoRA to `path`; to a numbered name beside it if another program holds that. Returns where it is.

        Raises ImageRewardError if there is none or it holds NaN, OSError where nothing can be written.
        """
        if self.lora is None:
            raise ImageRewardError("the whole network was tuned, so there is no LoRA to write: save the pipeline")
        return save_lora(self.lora, path, self.record)
