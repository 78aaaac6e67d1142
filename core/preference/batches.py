"""What goes through the reward model at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ..errors import ImageRewardError
from ..networks.wordpiece import WordPiece
from ..scorers.imagereward import PROMPT_TOKENS

LONG_PROMPTS = ("cut", "mean", "skip")


@dataclass(frozen=True)
class Text:
    """Prompts as token ids, one row a window; a prompt that is cut is one window."""

    ids: Tensor  # (W, L) int64
    mask: Tensor | None  # (W, L) bool, None when no row is padded
    owner: Tensor  # (W,) int64: the image that each window is read with

    def to(self, device: torch.device) -> Text:
        mask = None if self.mask is None else self.mask.to(device)
        return Text(self.ids.to(device), mask, self.owner.to(device))


@dataclass(frozen=True)
class ImageBatch:
    """N single pictures with their prompts; `readable` says which of them are pictures at all."""

    pixels: Tensor  # (N, 3, S, S) uint8
    text: Text
    readable: Tensor  # (N,) bool
    unreadable: tuple[str, ...] = ()

    def to(self, device: torch.device) -> ImageBatch:
        return replace(
            self, pixels=self.pixels.to(device), text=self.text.to(device), readable=self.readable.to(device)
        )


Images = TypeVar("Images", ImageBatch, Tensor)  # a tensor: the [CLS] states (N, width) of a frozen model


@dataclass(frozen=True)
class PairBatch(Generic[Images]):
    """N images, each once, and B comparisons among them."""

    images: Images
    better: Tensor  # (B,) int64: which of the images
    worse: Tensor
    target: Tensor  # (B,) the probability that `better` is preferred: 1, or 0.5 for a tie
    weight: Tensor  # (B,) 0 for a comparison of which an image could not be read
    unreadable: tuple[str, ...] = ()

    def to(self, device: torch.device) -> PairBatch[Images]:
        moved = {name: getattr(self, name).to(device) for name in ("images", "better", "worse", "target", "weight")}
        return replace(self, **moved)

    def paired(self, rewards: Tensor) -> Tensor:
        """(N,) rewards of the images -> (B, 2) of the better and the worse one of each comparison."""
        return torch.stack((rewards[self.better], rewards[self.worse]), dim=1)


class PromptReader:
    """Prompts -> token ids. long_prompts: "cut" reads the first 35 tokens, as the reference; "mean" all, in windows;
    "skip" leaves pairs with longer ones out."""

    def __init__(self, tokenizer: WordPiece, long_prompts: str = "cut") -> None:
        if long_prompts not in LONG_PROMPTS:
            raise ImageRewardError(
                f"expected long prompts to be one of {', '.join(LONG_PROMPTS)}, got {long_prompts!r}"
            )
        self.tokenizer = tokenizer
        self.long_prompts = long_prompts

    def leaves_out(self, prompt: str) -> bool:
        return self.long_prompts == "skip" and len(self.tokenizer.encode(prompt).ids) > PROMPT_TOKENS - 2

    def read(self, prompts: Sequence[str]) -> Text:
        windows = [self._windows(prompt) for prompt in prompts]
        ids, mask = self.tokenizer.batch([window for row in windows for window in row])
        owner = torch.arange(len(prompts)).repeat_interleave(torch.tensor([len(row) for row in windows]))
        return Text(ids, mask, owner)

    def _windows(self, prompt: str) -> list[list[int]]:
        room = PROMPT_TOKENS - 2
        ids = self.tokenizer.encode(prompt).ids
        if self.long_prompts != "mean":
            return [ids[:room]]
        return [ids[i : i + room] for i in range(0, max(1, len(ids)), room)]
