"""The randomness of the reference's training mode, on networks that have none of their own.

BLIP trains with dropout after every text sub-layer (BERT's `hidden_dropout_prob`, 0.1) and drops residual branches of its
large ViT (stochastic depth, Huang et al. 2016, up to 0.1 in the last block). Both are hooks here, so that the networks
stay what scoring needs. BERT's dropout on attention probabilities is left out: fused attention does not show them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .reward_model import RewardModel


def regularise(model: RewardModel, *, dropout: float, drop_path: float) -> None:
    """Adds both to the towers; in eval mode nothing changes."""
    text = model.text_encoder
    if dropout > 0:
        dropped = [m for name, m in text.named_modules() if name.endswith((".output.dense", "embeddings.LayerNorm"))]
        for module in dropped:
            module.register_forward_hook(_Dropout(dropout))
    blocks = model.visual_encoder.blocks
    for i, block in enumerate(blocks):
        share = drop_path * i / max(1, len(blocks) - 1)
        if share > 0:
            for branch in (block.get_submodule("attn"), block.get_submodule("mlp")):
                branch.register_forward_hook(_DropPath(share))


class _Dropout:
    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, self.share, training=module.training)


class _DropPath:
    """A residual branch is left out for whole samples, and louder by as much for the others."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        if not module.training:
            return output
        keep = torch.rand(len(output), *[1] * (output.ndim - 1), device=output.device) >= self.share
        return output * keep / (1 - self.share)
