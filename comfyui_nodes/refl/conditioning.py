"""Prompts as ComfyUI's CONDITIONING: encoded once, kept on the CPU, joined to a batch with a prompt for each picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.errors import ImageRewardError
from .memory import release

Conditioning = list[list[Any]]  # [[embeddings (B, tokens, width), {"pooled_output": (B, width), ...}], ..]


class EncodedPrompts:
    """Encodes each prompt once with a CLIP; `free` takes the text encoder off its device."""

    def __init__(self, clip: Any) -> None:
        self.clip = clip
        self._encoded: dict[str, Conditioning] = {}

    def encode(self, prompts: Iterable[str]) -> None:
        for prompt in prompts:
            if prompt not in self._encoded:
                with torch.inference_mode():  # as the host's own node does it
                    encoded = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt))
                self._encoded[prompt] = plain_copy(encoded)

    def free(self) -> None:
        release(self.clip.patcher)

    def fit_together(self, one: str, other: str) -> bool:
        """Whether in one batch both are what they are alone: no prompt is scheduled, and no tokens must be repeated."""
        self.encode([one, other])
        first, second = self._encoded[one], self._encoded[other]
        return len(first) == len(second) == 1 and _shapes(first) == _shapes(second)

    def batch(self, prompts: Sequence[str]) -> Conditioning:
        """One conditioning for a batch with a prompt for each picture."""
        self.encode(prompts)
        return join([self._encoded[prompt] for prompt in prompts])


def plain_copy(value: Any) -> Any:
    """The same structure with tensors that autograd may keep, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: plain_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain_copy(item) for item in value)
    return value


def _shapes(conditioning: Conditioning) -> dict[str, Any]:
    """Of a conditioning's tensors, by their names."""
    ((embeddings, options),) = conditioning
    tensors = {"embeddings": embeddings, **options}
    return {name: tensor.shape for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def join(conditionings: Sequence[Conditioning]) -> Conditioning:
    """Conditionings of one picture each -> one of them all, row by row.

    Unequal lengths are repeated to their least common multiple, as ComfyUI itself does before cross-attention: a softmax
    over repeated tokens is the same mean.
    """
    if len(conditionings) == 1:
        return conditionings[0]
    if any(len(one) != 1 for one in conditionings):
        raise ImageRewardError(
            "A prompt was encoded to several conditionings (scheduled prompts), which cannot share a batch: set "
            "batch_size to 1 and raise accumulation instead."
        )
    embeddings = [one[0][0] for one in conditionings]
    length = math.lcm(*(each.shape[1] for each in embeddings))
    options = [one[0][1] for one in conditionings]
    joined = dict(options[0])
    for key, value in options[0].items():
        if isinstance(value, Tensor):
            joined[key] = torch.cat([each[key] for each in options])
    return [[torch.cat([each.repeat(1, length // each.shape[1], 1) for each in embeddings]), joined]]
