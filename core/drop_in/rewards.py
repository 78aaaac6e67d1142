"""`score` and `inference_rank`, which all models of the reference have alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadImage
from ..files.console import counted
from ..pictures.pixels import ImageLike
from .preprocess import Preprocess, are_several, listed

_BATCH = 8  # images at a time

Prompt = str | Sequence[str] | None


class RewardModule(nn.Module):
    """An `nn.Module` that scores images for prompts. It is alone: no other model shares its weights, and it keeps no features.

    device: what `device` answers as long as the parameters are there; where they are moved, it follows.
    """

    preprocess: Preprocess

    def __init__(self, device: torch.device | str | int) -> None:
        super().__init__()
        self._given = device

    @property
    def device(self) -> Any:
        """The device as it was given, or that of the parameters once they are elsewhere."""
        there = next(self.parameters()).device
        given = torch.device(self._given)
        if given.type == there.type and given.index is None:
            given = torch.empty(0, device=given).device  # "cuda" is the current one
        return self._given if given == there else there

    @device.setter
    def device(self, device: torch.device | str | int) -> None:
        self._given = device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def score(self, prompt: Prompt, image: ImageLike | Sequence[ImageLike]) -> Any:
        """One image: its score. A list or a batch: their scores, and of a single one in it a number, as the reference does."""
        if are_several(image):
            return self.inference_rank(prompt, image)[1]
        rewards = self.rewards_of(prompt, [image])
        if rewards.numel() != 1:
            raise ValueError(
                f"expected one prompt for one image, got {counted(rewards.numel(), 'prompt')}. "
                "Fix: inference_rank(prompts, [image])"
            )
        return rewards.item()

    def inference_rank(self, prompt: Prompt, generations_list: Any) -> tuple[Any, Any]:
        """(ranks, 1 the best; rewards) in the order given: lists, and numbers where there is one alone.

        generations_list: a list, a batch, or anything else that gives one image after the other. Several prompts: each image
        with each prompt, image by image.
        """
        images = listed(generations_list)
        if not images:
            raise BadImage("expected at least one image to rank, got none")
        rewards = self.rewards_of(prompt, images).flatten()
        order = torch.sort(rewards, descending=True, stable=True).indices
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(1, len(order) + 1, device=order.device)
        return ranks.squeeze().tolist(), rewards.squeeze().tolist()

    @torch.no_grad()
    def rewards_of(self, prompt: Prompt, images: list[ImageLike]) -> Tensor:
        """P prompts, N images -> (N, P) float32 rewards on the CPU."""
        device, dtype = next(self.parameters()).device, self.dtype
        text = self.read_prompts(prompt)
        pixels = self.preprocess.each(images)
        rows = [self.rewards_of_pixels(batch.to(device, dtype), text) for batch in _batches(pixels)]
        return torch.cat([row.float().cpu() for row in rows])

    def read_prompts(self, prompt: Prompt) -> Any:
        """What `rewards_of_pixels` needs of the prompts."""
        raise NotImplementedError

    def rewards_of_pixels(self, pixels: Tensor, text: Any) -> Tensor:
        """(N, 3, S, S) normalised pixels -> (N, P)."""
        raise NotImplementedError


def texts_of(prompt: Prompt) -> list[str]:
    """One prompt or several as a list. Raises TypeError for None: only scores that read no prompt take that."""
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"expected a prompt as text, or a list of prompts, got {prompt!r:.100}")
    return list(texts)


def _batches(pixels: Iterator[Tensor]) -> Iterator[Tensor]:
    while batch := list(islice(pixels, _BATCH)):
        yield torch.stack(batch)
