"""CLIP as the reference's clients hold it: `encode_image` of normalised pixels, `encode_text` of ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnknownCheckpoint
from ..networks.bpe import BytePairs
from ..networks.build import build
from ..networks.clip import ClipLayout, ClipText, ClipVision, TextSizes
from ..networks.vit import ViTSizes
from ..scorers.clip import read_tokenizer
from ..scorers.clip_origin import expect_activation
from ..weights.read import Checkpoint, read_checkpoint
from ..weights.stored import StoredTensor


class ClipImageTower(ClipVision):
    """(B, 3, S, S) normalised pixels -> (B, D) embedding."""

    def __init__(self, sizes: ViTSizes, embedding: int, activation: str) -> None:
        super().__init__(sizes, embedding, activation)
        self.input_resolution, self.output_dim = sizes.image_size, embedding

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(self.tower(pixels)[:, 0])


class ClipModel(nn.Module):
    """Both towers; `text` is None where only images are scored."""

    def __init__(self, visual: ClipImageTower, text: ClipText | None) -> None:
        super().__init__()
        self.visual = visual
        self.text = text
        self.logit_scale = nn.Parameter(torch.tensor(100.0).log(), requires_grad=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.projection.weight.dtype

    def encode_image(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels -> (B, D), not of length 1."""
        return self.visual(image.to(self.dtype))

    def encode_text(self, text: Tensor) -> Tensor:
        """(B, L) ids -> (B, D), not of length 1."""
        if self.text is None:
            raise RuntimeError(
                "expected a CLIP with its text tower; Aesthetic has none. Fix: load_score('CLIP').clip_model"
            )
        return self.text(text)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) normalised pixels, (P, L) ids -> scaled cosines (B, P), and the same as (P, B)."""
        images, texts = F.normalize(self.encode_image(image)), F.normalize(self.encode_text(text))
        cosines = self.logit_scale.exp() * images @ texts.T
        return cosines, cosines.T


class ClipTokenizer:
    """Prompts -> ids (P, 77), cut, filled with zeros: what `clip.tokenize(prompts, truncate=True)` gives."""

    def __init__(self, words: BytePairs, length: int) -> None:
        self.words, self.length = words, length

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        ids = [self.words.encode(self.words.clean(prompt)).ids[: self.length - 2] for prompt in prompts]
        batch = self.words.batch(ids)
        return F.pad(batch, (0, self.length - batch.shape[1]))


def read_clip(path: Path, device: torch.device, *, with_text: bool) -> tuple[ClipModel, ClipTokenizer | None]:
    """The CLIP of a checkpoint in float32, alone of its kind in memory, and its tokenizer. Raises UnknownCheckpoint."""
    checkpoint = read_checkpoint(path)
    layout = ClipLayout.of(checkpoint.tensors)
    if layout is None or (with_text and not layout.has_text(checkpoint.tensors)):
        raise UnknownCheckpoint(f"expected a whole CLIP model at {path}, found {len(checkpoint.tensors)} other tensors")
    activation = expect_activation(checkpoint)
    vision = _below("visual.", layout.vision_tensors(checkpoint.tensors), "projection.weight", path)
    tensors = dict(vision)
    text_sizes = None
    if with_text:
        text = layout.text_tensors(checkpoint.tensors)
        text_sizes = TextSizes.of(text)
        tensors |= _below("text.", text, "projection.weight", path)

    def make() -> ClipModel:
        sizes = ViTSizes.of(tensors, "visual.tower.")
        visual = ClipImageTower(sizes, tensors["visual.projection.weight"].shape[0], activation)
        return ClipModel(visual, None if text_sizes is None else ClipText(text_sizes, activation))

    model = build(make, {**tensors, "logit_scale": _logit_scale(checkpoint, layout)}, torch.float32, device)
    if text_sizes is None:
        return model, None
    words = read_tokenizer(path, "openai")
    if words.last >= text_sizes.vocabulary:
        raise UnknownCheckpoint(f"the vocabulary ends at token {words.last}, {path} knows {text_sizes.vocabulary}")
    return model, ClipTokenizer(words, text_sizes.positions)


def _below(prefix: str, tensors: dict[str, StoredTensor], needed: str, path: Path) -> dict[str, StoredTensor]:
    if needed not in tensors:
        raise UnknownCheckpoint(f"{path} lacks CLIP's projection; a whole CLIP model has it")
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _logit_scale(checkpoint: Checkpoint, layout: ClipLayout) -> Tensor:
    stored = checkpoint.tensors.get(layout.prefix + "logit_scale")
    return torch.tensor(100.0).log() if stored is None else stored.read().reshape(())
