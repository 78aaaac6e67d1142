"""CLIP's cosine between prompt and picture (Radford et al. 2021, arXiv 2103.00020), and what every CLIP scorer shares.

Gives the numbers of `CLIPScore.score` in THUDM/ImageReward, ImageReward/models/CLIPScore.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import UnknownCheckpoint
from ..networks.bpe import BytePairs
from ..networks.build import build
from ..networks.clip import ClipLayout, ClipText, ClipVision, TextSizes, is_huge
from ..networks.vit import ViTSizes
from ..weights.catalogue import CLIP_L14, CLIP_MERGES, CLIP_VOCABULARY
from ..weights.download import companion
from ..weights.read import Checkpoint
from ..weights.stored import StoredTensor
from .base import Scorer, ScorerInfo
from .clip_origin import expect_activation, is_named
from .prompts import CosineScorer
from .registry import register
from .towers import Tower, shared_tower

PROMPT_TOKENS = 77  # with start and end

INFO = ScorerInfo(
    name="clip",
    title="CLIP",
    measures="How well the picture matches its prompt: the cosine of CLIP ViT-L/14's embeddings, about 0.1 to 0.4.",
    reads_prompt=True,
    prompt_tokens=PROMPT_TOKENS,
    mean=0.26,
    std=0.035,
    licence="MIT",
    source="https://github.com/openai/CLIP",
    paper="https://arxiv.org/abs/2103.00020",
    weights=(CLIP_L14, CLIP_VOCABULARY, CLIP_MERGES),
    typical="estimated from the range seen in practice; published by nobody",
)


@register
class ClipScorer(CosineScorer):
    """CLIP ViT-L/14. The scorers that were tuned from a CLIP are subclasses, with what their recipe does otherwise."""

    variants: ClassVar[tuple[ScorerInfo, ...]] = (INFO,)
    activation: ClassVar[str | None] = (
        None  # of a tuned model, whose files tell nothing; None: as the checkpoint states
    )
    family: ClassVar[str] = (
        ""  # what the names of a tuned model's files hold; its shape alone is also that of what it was tuned from
    )
    cleaning: ClassVar[str] = "openai"

    tokenizer: BytePairs

    def __init__(
        self,
        info: ScorerInfo,
        vision: Tower[ClipVision],
        text: Tower[ClipText],
        tokenizer: BytePairs,
        input_size: int | None,
        scale: float,
    ) -> None:
        network = nn.ModuleDict({"vision": vision.network, "text": text.network})
        tokens = text.network.sizes.positions
        super().__init__(info, network, vision, tokenizer, tokens=tokens, input_size=input_size)
        self.side = vision.network.tower.sizes.image_size
        self.scale = scale
        self._text: Tower[ClipText] | None = text

    def embed(self, prompts: Sequence[list[int]]) -> Tensor:
        self._require_loaded()
        assert self._text is not None
        features: Tensor = self._text.network(self.tokenizer.batch(prompts).to(self.device))
        return features

    def drop_network(self) -> None:
        super().drop_network()
        self._text = None

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        layout = ClipLayout.of(checkpoint.tensors)
        return layout is not None and layout.has_text(checkpoint.tensors) and not is_huge(checkpoint.tensors, layout)

    @classmethod
    def doubts(cls, checkpoint: Checkpoint) -> str:
        if not cls.family or is_named(checkpoint, cls.family):
            return ""
        titles = " or ".join(info.title for info in cls.variants)
        names = " or ".join(info.weights[0].name for info in cls.variants)
        return (
            f"has the shape of {titles}, and also of the CLIP ViT-H/14 that it was tuned from, whose scores would mean "
            f"something else. If it is {titles}, say so in its name: {names}"
        )

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint | None, info: ScorerInfo, *, device: torch.device, dtype: torch.dtype
    ) -> Scorer:
        assert checkpoint is not None
        tokenizer = read_tokenizer(checkpoint.path, cls.cleaning)
        activation = cls.activation or expect_activation(checkpoint)
        vision = vision_tower(checkpoint, activation, device=device, dtype=dtype)
        text = _text_tower(checkpoint, activation, device=device, dtype=dtype)
        known = text.network.sizes.vocabulary
        if tokenizer.last >= known:
            raise UnknownCheckpoint(
                f"the vocabulary ends at token {tokenizer.last}, {checkpoint.path} knows {known}; is it its own?"
            )
        size = vision.network.tower.sizes.image_size
        return cls(info, vision, text, tokenizer, cls._input_size(size), cls._scale(checkpoint))

    @classmethod
    def _input_size(cls, side: int) -> int | None:
        """What `to_pixels` and mixtures may resize to beforehand; None for a recipe of its own."""
        return side

    @classmethod
    def _scale(cls, checkpoint: Checkpoint) -> float:
        """By what the cosine is multiplied."""
        return 1.0


def vision_tower(
    checkpoint: Checkpoint, activation: str, *, device: torch.device, dtype: torch.dtype
) -> Tower[ClipVision]:
    """The image tower of a CLIP checkpoint, shared with every scorer that looks through the same file."""

    def make() -> ClipVision:
        tensors = _layout_of(checkpoint).vision_tensors(checkpoint.tensors)
        _require(tensors, "projection.weight", checkpoint)
        sizes = ViTSizes.of(tensors, "tower.")
        embedding = tensors["projection.weight"].shape[0]
        return build(lambda: ClipVision(sizes, embedding, activation), tensors, dtype, device)

    return shared_tower(f"clip image tower, {activation}", checkpoint.path, device, dtype, make)


def _text_tower(
    checkpoint: Checkpoint, activation: str, *, device: torch.device, dtype: torch.dtype
) -> Tower[ClipText]:
    def make() -> ClipText:
        tensors = _layout_of(checkpoint).text_tensors(checkpoint.tensors)
        _require(tensors, "projection.weight", checkpoint)
        sizes = TextSizes.of(tensors)
        return build(lambda: ClipText(sizes, activation), tensors, dtype, device)

    return shared_tower(f"clip text tower, {activation}", checkpoint.path, device, dtype, make)


def _layout_of(checkpoint: Checkpoint) -> ClipLayout:
    layout = ClipLayout.of(checkpoint.tensors)
    assert layout is not None  # `recognises` accepted it
    return layout


def _require(tensors: dict[str, StoredTensor], name: str, checkpoint: Checkpoint) -> None:
    if name not in tensors:
        raise UnknownCheckpoint(f"{checkpoint.path} lacks CLIP's projection; a whole CLIP model has it")


def read_tokenizer(checkpoint: Path | None, cleaning: str) -> BytePairs:
    """The tokenizer beside a checkpoint (vocab.json and merges.txt, or tokenizer.json), in the folders, or from the Hub."""
    both = None if checkpoint is None else checkpoint.parent / "tokenizer.json"
    if both is not None and both.is_file() and not (both.parent / "vocab.json").is_file():
        return BytePairs.read(both, both, cleaning)
    vocabulary = companion(CLIP_VOCABULARY, checkpoint, also=("vocab.json",))
    return BytePairs.read(vocabulary, companion(CLIP_MERGES, checkpoint, also=("merges.txt",)), cleaning)
