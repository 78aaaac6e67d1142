"""Prompts as vectors: close where they mean alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ImageRewardError
from ..files.console import counted
from ..scorers.base import Scorer
from ..scorers.loading import load_scorer
from ..scorers.registry import scorer_classes

SENTENCES = "st:"
BATCH = 64


@dataclass(frozen=True)
class Embedder:
    """`embed` takes texts and gives (N, D); `name` says whose vectors they are."""

    name: str
    embed: Callable[[Sequence[str]], Tensor]

    def unit(self, texts: Sequence[str]) -> Tensor:
        """(N, D) float32 vectors of length 1 on the CPU."""
        vectors = torch.as_tensor(self.embed(texts)).detach().float().cpu()
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ImageRewardError(
                f"expected a vector for each of {counted(len(texts), 'text')}, got {tuple(vectors.shape)}"
            )
        if not bool(vectors.isfinite().all()):
            raise ImageRewardError(f"{self.name} gave a vector that is not finite; try another dtype or device")
        return torch.nn.functional.normalize(vectors, dim=1)


def load_embedder(name: str = "clip", *, device: str | None = None) -> Embedder:
    """The network that turns prompts into vectors.

    Args:
        name: a scorer with a CLIP text tower ("clip", a checkpoint file of one), or "st:MODEL" of sentence-transformers.
        device: where it goes; None takes the fastest there is.

    Returns:
        An embedder of texts to vectors (N, D).

    Raises:
        ImageRewardError: the scorer has no text tower, or sentence-transformers is not installed.
    """
    if name.startswith(SENTENCES):
        return _sentence_transformer(name, device)
    return scorer_embedder(load_scorer(name, device=device))


def scorer_embedder(scorer: Scorer) -> Embedder:
    """The text tower of a loaded scorer.

    Args:
        scorer: a scorer whose class has `text_features`.

    Returns:
        An embedder under the scorer's name.

    Raises:
        ImageRewardError: the scorer has no text tower.
    """
    features = getattr(scorer, "text_features", None)
    if features is None:
        able = [name for name, cls in scorer_classes().items() if hasattr(cls, "text_features")]
        raise ImageRewardError(
            f"{scorer.info.title} has no text embedding of its own; take one of {', '.join(able)}, or {SENTENCES}MODEL"
        )

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> Tensor:
        vectors: Tensor = features(list(texts))
        return vectors

    return Embedder(scorer.info.name, embed)


def _sentence_transformer(name: str, device: str | None) -> Embedder:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImageRewardError(f"{name} needs sentence-transformers: pip install sentence-transformers") from error
    model = SentenceTransformer(name[len(SENTENCES) :], device=device)

    def embed(texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False))

    return Embedder(name, embed)
