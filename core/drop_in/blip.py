"""BLIP as the reference's clients hold it: towers with its names, its keys, its calls, and its randomness in training.

The scorers' own networks give the same numbers with less work (`core/networks/bert.py`); here every parameter takes part and
every argument that clients pass is honoured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ImageRewardError
from ..networks.bert import BertSizes, TextEncoder
from ..networks.vit import VisionTransformer, ViTSizes
from ..weights.stored import StoredTensor
from .tokenizer import Tokenizer

EMBEDDING = 256  # of the contrastive space
DROP_PATH = 0.1  # stochastic depth of the last block of the large image tower
MASKED = -10000.0  # added to the scores of tokens that do not count

# BLIP's med_config.json, which comes with every checkpoint of ImageReward.
_TEXT = {
    "vocab_size": 30524,
    "max_position_embeddings": 512,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_VISION = {"base": (768, 12, 12), "large": (1024, 24, 16)}  # width, depth, heads
_PATCH = 16


@dataclass(frozen=True)
class BlipSizes:
    """What a BLIP is built from."""

    vision: ViTSizes
    text: BertSizes
    embedding: int = EMBEDDING
    drop_path: float = DROP_PATH

    @classmethod
    def of(cls, tensors: Mapping[str, StoredTensor], prefix: str = "") -> BlipSizes:
        """Read off a checkpoint's tensors."""
        projection = tensors.get(prefix + "vision_proj.weight")
        return cls(
            ViTSizes.of(tensors, prefix + "visual_encoder."),
            BertSizes.of(tensors, prefix + "text_encoder."),
            EMBEDDING if projection is None else projection.shape[0],
        )

    @classmethod
    def published(cls, med_config: object, image_size: int, vit: str, embedding: int) -> BlipSizes:
        """Of BLIP's base or large image tower, and the text tower of a med_config.json; None is that of BLIP itself."""
        if vit not in _VISION:
            raise ImageRewardError(f"expected a vit of {' or '.join(_VISION)}, got {vit!r}")
        width, depth, heads = _VISION[vit]
        vision = ViTSizes(width, depth, heads, 4 * width, _PATCH, image_size)
        text = _TEXT | ({} if med_config is None else _read_config(med_config))
        sizes = BertSizes(
            vocabulary=text["vocab_size"],
            positions=text["max_position_embeddings"],
            width=text["hidden_size"],
            depth=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            hidden=text["intermediate_size"],
            image_width=width,
        )
        return cls(vision, sizes, embedding, DROP_PATH if vit == "large" else 0.0)


def _read_config(med_config: Any) -> dict[str, int]:
    try:
        config = json.loads(Path(med_config).read_text(encoding="utf-8"))
        return {key: int(config[key]) for key in _TEXT}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ImageRewardError(
            f"expected BERT's configuration in {med_config}, a JSON file with {', '.join(_TEXT)} "
            f"({type(error).__name__}: {error}). Fix: leave med_config out to take BLIP's own"
        ) from error


class VisionTower(VisionTransformer):
    """(B, 3, S, S) normalised pixels -> (B, 1 + patches, width); training leaves branches out at random (`DROP_PATH`)."""

    def __init__(self, sizes: ViTSizes, drop_path: float) -> None:
        super().__init__(sizes)
        self.num_features = self.embed_dim = sizes.width
        last = max(1, sizes.depth - 1)
        self.drop_path = [drop_path * place / last for place in range(sizes.depth)]
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        if not self.training:
            return super().forward(pixels)
        x = self.patch_embed(pixels)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        blocks: Any = self.blocks
        for block, share in zip(blocks, self.drop_path, strict=True):
            x = x + _dropped(block.attn(block.norm1(x)), share)
            x = x + _dropped(block.mlp(block.norm2(x)), share)
        return self.norm(x)


def _dropped(branch: Tensor, share: float) -> Tensor:
    """The branch without a share of the samples, and louder by as much for the others (Huang et al. 2016)."""
    if share == 0:
        return branch
    keep = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= share
    return branch * keep.to(branch.dtype) / (1 - share)


class TextOutput(NamedTuple):
    """What a text tower returns: a tuple whose first item is the hidden states (B, L, width)."""

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None


class TextTower(TextEncoder):
    """BERT with cross-attention to image tokens, called as the reference's `BertModel`."""

    def __init__(self, sizes: BertSizes, dropout: float = 0.1) -> None:
        super().__init__(sizes)
        self.dropout = dropout
        self.embeddings.register_buffer("position_ids", torch.arange(sizes.positions)[None])  # a key of the reference's
        self.config = SimpleNamespace(
            vocab_size=sizes.vocabulary,
            max_position_embeddings=sizes.positions,
            hidden_size=sizes.width,
            num_hidden_layers=sizes.depth,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.hidden,
            encoder_width=sizes.image_width,
        )

    def forward(  # type: ignore[override] # the reference's arguments instead of the scorers'
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
        mode: str = "multimodal",
    ) -> TextOutput:
        """(B, L) ids and their mask; image tokens (B, N, W) and theirs -> hidden states (B, L, width), item 0.

        A batch of one goes with any other, of texts and of images. mode="text" reads no image. return_dict changes nothing:
        the result is a tuple and has the names.
        """
        image = None if mode == "text" else encoder_hidden_states
        if image is None and mode != "text":
            raise ValueError(
                "expected encoder_hidden_states, the image's tokens (B, N, W), or mode='text' to read none"
            )
        x = self._drop(self.embeddings(input_ids))
        text_bias = None if attention_mask is None else _bias(attention_mask, x.dtype)
        image_bias = None if encoder_attention_mask is None else _bias(encoder_attention_mask, x.dtype)
        layers: Any = self.encoder.layer
        for layer in layers:
            x = self._attend(layer.attention, x, x, text_bias)
            if image is not None:
                x = self._attend(layer.crossattention, x, image, image_bias)
            x = self._added(layer.output, layer.intermediate(x), x)
        return TextOutput(x)

    def _attend(self, attention: Any, x: Tensor, source: Tensor, bias: Tensor | None) -> Tensor:
        """(B, L, C) reads (B, N, W) -> (B, L, C). In plain steps: they have derivatives of every order, and broadcast."""
        projections, heads = attention.self, attention.heads
        q = _split(projections.query(x), heads)
        k = _split(projections.key(source), heads)
        v = _split(projections.value(source), heads)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        weights = self._drop((scores if bias is None else scores + bias).softmax(-1))
        return self._added(attention.output, (weights @ v).transpose(1, 2).flatten(2), x)

    def _added(self, output: Any, branch: Tensor, x: Tensor) -> Tensor:
        return output.LayerNorm(self._drop(output.dense(branch)) + x)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, L, C) -> (B, heads, L, C / heads)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, N) or (B, L, N), zero where a token does not count -> what is added to attention scores (B, heads, L, N)."""
    rows = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
    return (1.0 - rows.to(dtype)) * MASKED


class BLIP_Pretrain(nn.Module):  # noqa: N801 - the reference's name
    """Both towers, the projections into the contrastive space, and the tokenizer.

    med_config: a JSON file with the text tower's sizes; None takes BLIP's own. sizes: of both towers, instead of all else.
    beside: the file beside which `vocab.txt` may lie.
    """

    def __init__(
        self,
        med_config: object = None,
        image_size: int = 224,
        vit: str = "base",
        embed_dim: int = EMBEDDING,
        *,
        sizes: BlipSizes | None = None,
        beside: Path | None = None,
    ) -> None:
        super().__init__()
        sizes = sizes or BlipSizes.published(med_config, image_size, vit, embed_dim)
        self.visual_encoder = VisionTower(sizes.vision, sizes.drop_path)
        self.tokenizer = Tokenizer(beside)
        self.text_encoder = TextTower(sizes.text)
        self.vision_proj = nn.Linear(sizes.vision.width, sizes.embedding)
        self.text_proj = nn.Linear(sizes.text.width, sizes.embedding)

    @property
    def image_size(self) -> int:
        return self.visual_encoder.sizes.image_size


def blip_tensors(tensors: Mapping[str, StoredTensor], sizes: BlipSizes) -> dict[str, Tensor | StoredTensor]:
    """A checkpoint's tensors by the names of `BLIP_Pretrain`, and those that scoring never reads, if it lacks them."""
    with torch.random.fork_rng(devices=[]):
        projections = {"vision_proj": nn.Linear(sizes.vision.width, sizes.embedding)}
        projections["text_proj"] = nn.Linear(sizes.text.width, sizes.embedding)
    fresh = {f"{name}.{key}": t for name, module in projections.items() for key, t in module.state_dict().items()}
    positions = {"text_encoder.embeddings.position_ids": torch.arange(sizes.text.positions)[None]}
    return {**fresh, **tensors, **positions}
