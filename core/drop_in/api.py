"""The names of the `image-reward` package, so that its users change nothing but the import.

`import sd_imagereward as RM; model = RM.load("ImageReward-v1.0"); model.score(prompt, image)`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import BadImage, ImageRewardError
from ..networks.pixels import normalise
from ..pictures.pixels import ImageLike
from ..scorers.base import Scorer
from ..scorers.imagereward import PROMPT_TOKENS, ImageRewardScorer
from ..scorers.loading import load_scorer
from ..scoring.score import score_images

_MODELS = {"ImageReward-v1.0": "imagereward"}
_SCORES = {"CLIP": "clip", "BLIP": "blip", "Aesthetic": "aesthetic"}


def available_models() -> list[str]:
    """The names that `load` takes."""
    return list(_MODELS)


def load(
    name: str = "ImageReward-v1.0",
    device: str | torch.device | None = None,
    download_root: str | None = None,
    med_config: str | None = None,
) -> ImageReward:
    """The ImageReward model by name or checkpoint file, in fp32 as the reference holds it.

    download_root: a folder to look into and download to. med_config is not needed and not read.
    """
    return ImageReward(_load(_MODELS.get(name, name), device, download_root))


def load_score(name: str = "CLIP", device: str | torch.device | None = None, download_root: str | None = None) -> Score:
    """The reference's other scores: CLIP, BLIP, Aesthetic."""
    if name not in _SCORES:
        raise ImageRewardError(f"Score {name} not found; available scores = {list(_SCORES)}")
    return Score(_load(_SCORES[name], device, download_root))


def _load(name: str, device: str | torch.device | None, download_root: str | None) -> Scorer:
    if download_root is not None:
        from ..weights.locate import add_folder

        add_folder(os.path.expanduser(download_root))
    return load_scorer(name, device=device, dtype=torch.float32)


class Score:
    """`score` and `inference_rank` of the reference, on any scorer."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    @property
    def device(self) -> torch.device:
        return self.scorer.device

    def score(self, prompt: str, image: ImageLike | list[ImageLike]) -> float | list[float]:
        """One image: its score. A list: their scores, also when it holds a single image."""
        if isinstance(image, list):
            return self.inference_rank(prompt, image)[1] if image else []
        return float(self._rate([image], prompt)[0])

    def inference_rank(self, prompt: str, generations_list: Sequence[ImageLike]) -> tuple[list[int], list[float]]:
        """(each image's rank, 1 the best; its reward), in the order given."""
        if not generations_list:
            raise BadImage("expected at least one image to rank, got none")
        rewards = self._rate(list(generations_list), prompt)
        order = torch.sort(rewards, descending=True, stable=True).indices
        ranking = torch.empty_like(order)
        ranking[order] = torch.arange(1, len(order) + 1)
        return ranking.tolist(), rewards.tolist()

    def _rate(self, images: list[ImageLike], prompt: str) -> Tensor:
        """Scores (N,) of images as they are stored: the reference does not turn them as their EXIF orientation says."""
        return score_images(self.scorer, images, prompt, upright=False).total


class Tokens(NamedTuple):
    """What the reference's tokenizer returns, as far as its users read it."""

    input_ids: Tensor
    attention_mask: Tensor

    def to(self, device: str | torch.device) -> Tokens:
        return Tokens(self.input_ids.to(device), self.attention_mask.to(device))


class ImageReward(Score):
    """The reference's model class over our scorer."""

    scorer: ImageRewardScorer

    @property
    def blip(self) -> SimpleNamespace:
        """`model.blip.tokenizer(...)`, the way ReFL's trainers turn prompts into ids."""
        return SimpleNamespace(tokenizer=self._tokenize)

    def _tokenize(self, text: str | Sequence[str], max_length: int = PROMPT_TOKENS, **_: Any) -> Tokens:
        """Prompts -> ids and mask (B, max_length), cut and padded; other arguments of the original change nothing."""
        tokenizer = self.scorer.tokenizer
        texts = [text] if isinstance(text, str) else text
        encoded = [tokenizer.encode(t).ids[: max_length - 2] for t in texts]
        rows = [[tokenizer.first, *ids, tokenizer.last] for ids in encoded]
        ids = torch.tensor([row + [tokenizer.pad] * (max_length - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (max_length - len(row)) for row in rows])
        return Tokens(ids, mask)

    def preprocess(self, image: ImageLike) -> Tensor:
        """One image -> (3, 224, 224) normalised pixels, what `score_gard` takes."""
        from ..pictures.pixels import to_pixels

        return normalise(self.scorer.prepare(to_pixels(image, self.scorer.input_size, upright=False)[None]))[0]

    def score_gard(self, prompt_ids: Tensor, prompt_attention_mask: Tensor, image: Tensor) -> Tensor:
        """Token ids (B, L), their mask, and normalised pixels (B, 3, 224, 224) -> (B, 1) rewards, differentiable."""
        network = self.scorer.network
        return network(prompt_ids, prompt_attention_mask, network.encode_image(image))[:, None]
