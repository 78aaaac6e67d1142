"""CLIP's two towers (Radford et al. 2021, arXiv 2103.00020), and the three layouts that their weights come in.

`vision_tensors` and `text_tensors` bring the layouts of the Hub (transformers' CLIPModel), open_clip and OpenAI to the
names of this file, with query, key and value as one matrix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnknownCheckpoint
from ..weights.stored import StoredTensor
from .pixels import normalise
from .sizes import count_layers, heads_of, vision_heads_of
from .transformer import Activation, Block
from .vit import VisionTransformer, ViTSizes

EPS = 1e-5
HUGE_HEAD = 80  # width of an attention head of ViT-H's image tower

HUB, OPEN_CLIP = "hub", "open_clip"  # OpenAI's own names are open_clip's
_SIGNS = {HUB: "vision_model.embeddings.class_embedding", OPEN_CLIP: "visual.class_embedding"}


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x): what OpenAI's CLIP has in place of GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Activation] = {"quick_gelu": quick_gelu, "gelu": F.gelu}  # no tensor tells which


# -- networks --------------------------------------------------------------------------------------------------------


class ClipVision(nn.Module):
    """(B, 3, S, S) pixels in [0, 1] -> (B, D) image embedding, not normalised."""

    def __init__(self, sizes: ViTSizes, embedding: int, activation: str) -> None:
        super().__init__()
        self.tower = VisionTransformer(sizes, eps=EPS, activation=ACTIVATIONS[activation], pre_norm=True)
        self.projection = nn.Linear(sizes.width, embedding, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.tower(normalise(pixels).to(self.projection.weight.dtype))
        return self.projection(tokens[:, 0])


@dataclass(frozen=True)
class TextSizes:
    """Everything that a text tower's tensors tell about it."""

    vocabulary: int
    positions: int
    width: int
    depth: int
    heads: int
    hidden: int
    embedding: int

    @classmethod
    def of(cls, tensors: Mapping[str, StoredTensor]) -> TextSizes:
        vocabulary, width = tensors["token_embedding.weight"].shape
        return cls(
            vocabulary=vocabulary,
            positions=tensors["positions"].shape[0],
            width=width,
            depth=count_layers(tensors, "blocks."),
            heads=heads_of(width),
            hidden=tensors["blocks.0.mlp.fc1.weight"].shape[0],
            embedding=tensors["projection.weight"].shape[0],
        )


class ClipText(nn.Module):
    """(B, L) token ids -> (B, D) text embedding, not normalised, read off the first end-of-text token.

    Attention is causal, so what follows that token is never read and rows need no padding mask.
    """

    def __init__(self, sizes: TextSizes, activation: str) -> None:
        super().__init__()
        self.sizes = sizes
        self.token_embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = nn.Parameter(torch.empty(sizes.positions, sizes.width))
        self.blocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, sizes.hidden, EPS, ACTIVATIONS[activation]) for _ in range(sizes.depth)
        )
        self.norm = nn.LayerNorm(sizes.width, eps=EPS)
        self.projection = nn.Linear(sizes.width, sizes.embedding, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token_embedding(ids) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        # The end of text has the highest id of all; argmax finds its first occurrence.
        last = x[torch.arange(len(ids), device=ids.device), ids.argmax(-1)]
        return self.projection(self.norm(last))


# -- layouts ---------------------------------------------------------------------------------------------------------

_BLOCK = {
    HUB: {
        "layer_norm1": "norm1",
        "layer_norm2": "norm2",
        "self_attn.out_proj": "attn.proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    },
    OPEN_CLIP: {
        "ln_1": "norm1",
        "ln_2": "norm2",
        "attn.in_proj": "attn.qkv",
        "attn.out_proj": "attn.proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    },
}
# What stands outside the blocks: theirs -> ours. A leading "^" marks a matrix that is stored the other way round.
_VISION = {
    HUB: {
        "vision_model.embeddings.class_embedding": "tower.cls_token",
        "vision_model.embeddings.patch_embedding.weight": "tower.patch_embed.proj.weight",
        "vision_model.embeddings.position_embedding.weight": "tower.pos_embed",
        "vision_model.pre_layrnorm": "tower.pre_norm",  # their spelling
        "vision_model.encoder.layers": "tower.blocks",
        "vision_model.post_layernorm": "tower.norm",
        "visual_projection.weight": "projection.weight",
    },
    OPEN_CLIP: {
        "visual.class_embedding": "tower.cls_token",
        "visual.conv1.weight": "tower.patch_embed.proj.weight",
        "visual.positional_embedding": "tower.pos_embed",
        "visual.ln_pre": "tower.pre_norm",
        "visual.transformer.resblocks": "tower.blocks",
        "visual.ln_post": "tower.norm",
        "visual.proj": "^projection.weight",
    },
}
_TEXT = {
    HUB: {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positions",
        "text_model.encoder.layers": "blocks",
        "text_model.final_layer_norm": "norm",
        "text_projection.weight": "projection.weight",
    },
    OPEN_CLIP: {
        "token_embedding.weight": "token_embedding.weight",
        "positional_embedding": "positions",
        "transformer.resblocks": "blocks",
        "ln_final": "norm",
        "text_projection": "^projection.weight",
    },
}


@dataclass(frozen=True)
class ClipLayout:
    """How a checkpoint names CLIP's tensors."""

    kind: str
    prefix: str

    @classmethod
    def of(cls, tensors: Mapping[str, StoredTensor]) -> ClipLayout | None:
        """The layout of these tensors, None if they are no CLIP's."""
        for kind, sign in _SIGNS.items():
            for name in tensors:
                if name == sign or name.endswith("." + sign):
                    return cls(kind, name[: len(name) - len(sign)])
        return None

    def has_text(self, tensors: Mapping[str, StoredTensor]) -> bool:
        """Whether the text tower is there too; image encoders come without."""
        return f"{self.prefix}{next(iter(_TEXT[self.kind]))}" in tensors

    def width(self, tensors: Mapping[str, StoredTensor]) -> int:
        """Of the image tower."""
        return tensors[self.prefix + _SIGNS[self.kind]].shape[-1]

    def vision_tensors(self, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
        """The image tower's tensors under the names of `ClipVision`."""
        found = self._renamed(tensors, _VISION[self.kind])
        for name, axes in (("tower.cls_token", (1, 1)), ("tower.pos_embed", (1,))):
            if name in found:
                found[name] = _with_axes(found[name], axes)
        return found

    def text_tensors(self, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
        """The text tower's tensors under the names of `ClipText`."""
        return self._renamed(tensors, _TEXT[self.kind])

    def _renamed(self, tensors: Mapping[str, StoredTensor], names: Mapping[str, str]) -> dict[str, StoredTensor]:
        found: dict[str, StoredTensor] = {}
        for theirs, ours in names.items():
            for name, tensor in tensors.items():
                if name != self.prefix + theirs and not name.startswith(f"{self.prefix}{theirs}."):
                    continue
                rest = name[len(self.prefix) + len(theirs) :]
                if ours.startswith("^"):
                    found[ours[1:] + rest] = tensor.changed(tensor.shape[::-1], lambda stored: stored.T.contiguous())
                else:
                    found[ours + self._renamed_in_block(rest)] = tensor
        return _fused(found)

    def _renamed_in_block(self, rest: str) -> str:
        """ ".3.attn.in_proj_weight" -> ".3.attn.qkv.weight"; what is outside a block stays as it is."""
        match = re.fullmatch(r"(\.\d+\.)(.+?)[._](weight|bias)", rest)
        if match is None:
            return rest
        return f"{match[1]}{_BLOCK[self.kind].get(match[2], match[2])}.{match[3]}"


def _with_axes(tensor: StoredTensor, axes: tuple[int, ...]) -> StoredTensor:
    """The same numbers, with axes of length 1 before the others."""
    shape = (*axes, *tensor.shape)
    return tensor.changed(shape, lambda stored: stored.view(shape))


def _fused(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Separate query, key and value projections (the Hub's) as the one matrix that `Attention` holds."""
    for name in [name for name in tensors if ".self_attn.q_proj." in name]:
        parts = [tensors.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        tensors[name.replace("self_attn.q_proj", "attn.qkv")] = _joined(parts)
    return tensors


def _joined(parts: Sequence[StoredTensor]) -> StoredTensor:
    """Tensors of the same shape, one below the other."""
    first = parts[0]
    if any(part.shape != first.shape for part in parts):
        raise UnknownCheckpoint(
            f"expected query, key and value of one shape, got {[tuple(part.shape) for part in parts]}"
        )
    shape = torch.Size((len(parts) * first.shape[0], *first.shape[1:]))
    return StoredTensor(shape, first.dtype, lambda: torch.cat([part.read() for part in parts]))


def is_huge(tensors: Mapping[str, StoredTensor], layout: ClipLayout) -> bool:
    """Whether the image tower is built as ViT-H: its heads are 80 wide. Raises UnknownCheckpoint for unknown widths."""
    width = layout.width(tensors)
    return width >= HUGE_HEAD and vision_heads_of(width) * HUGE_HEAD == width
