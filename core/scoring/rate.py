"""Many images at once: read, resized, batched, judged; memory that runs out halves the batch and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import BadImage, OutOfMemory
from ..networks.devices import is_out_of_memory, release_memory
from ..pictures.pixels import ImageLike, to_pixels
from ..scorers.base import Scorer, ScorerInfo

OnProgress = Callable[[int, int], None]


@dataclass
class Ratings:
    """What a scorer said of N images."""

    total: Tensor  # (N,) float32 on the CPU, NaN where an image could not be read
    parts: dict[str, Tensor]  # the components by title, each (N,)
    info: ScorerInfo
    errors: dict[int, str] = field(default_factory=dict)  # position -> why the image could not be read


def rate(scorer: Scorer, images: object, prompts: str | Sequence[str], *, batch_size: int | None = None) -> Tensor:
    """Scores of N images as a float32 CPU tensor (N,); see `judge`."""
    return judge(scorer, images, prompts, batch_size=batch_size).total


def get_reward_score(
    scorer: Scorer, images: object, prompts: str | Sequence[str], *, batch_size: int | None = None
) -> tuple[float, dict[str, Tensor]]:
    """(mean score of N images, every component by title (N,)): a mixture's members, or the scorer itself."""
    ratings = judge(scorer, images, prompts, batch_size=batch_size)
    components = {title: values for title, values in ratings.parts.items() if title != scorer.info.title}
    return float(ratings.total.mean()), components or ratings.parts


def judge(
    scorer: Scorer,
    images: object,
    prompts: str | Sequence[str],
    *,
    batch_size: int | None = None,
    skip_broken: bool = False,
    on_progress: OnProgress | None = None,
) -> Ratings:
    """Judges images of any kind and size.

    images: one image or a sequence of them: paths, PIL images, numpy arrays (H, W, 3), torch tensors (3, H, W), or one
    tensor (N, 3, H, W). prompts: one for all, or N. skip_broken: an unreadable image scores NaN and is listed in `errors`
    instead of raising BadImage. on_progress(done, N) is called after each batch; what it raises stops the work.
    """
    items = as_list(images)
    texts = as_prompts(prompts, len(items))
    size = batch_size or default_batch_size(scorer)
    parts = {scorer.info.title: torch.full((len(items),), torch.nan)}
    errors: dict[int, str] = {}
    for start in range(0, len(items), size):
        chunk = range(start, min(start + size, len(items)))
        scored, unreadable = _judge_chunk(scorer, [items[i] for i in chunk], [texts[i] for i in chunk], skip_broken)
        for title, values in scored.items():
            parts.setdefault(title, torch.full((len(items),), torch.nan))[chunk.start : chunk.stop] = values
        errors |= {start + i: reason for i, reason in unreadable.items()}
        if on_progress is not None:
            on_progress(chunk.stop, len(items))
    return Ratings(parts[scorer.info.title], parts, scorer.info, errors)


def as_list(images: object) -> list[ImageLike]:
    """One image or a sequence or batch of them -> a list of single images."""
    if isinstance(images, Tensor) and images.ndim == 4:
        return list(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    if isinstance(images, (list, tuple)):
        return list(images)
    return [images]


def as_prompts(prompts: str | Sequence[str], count: int) -> list[str]:
    texts = [prompts] * count if isinstance(prompts, str) else list(prompts)
    if len(texts) != count:
        raise ValueError(f"expected one prompt, or one for each of the {count} images, got {len(texts)}")
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise TypeError(f"expected prompts as text, got {type(wrong).__name__}")
    return texts


def default_batch_size(scorer: Scorer) -> int:
    """What keeps a device busy: more than this is hardly faster and takes memory from the host."""
    return 8 if scorer.device.type == "cpu" else 64


def _judge_chunk(
    scorer: Scorer, images: Sequence[ImageLike], prompts: Sequence[str], skip_broken: bool
) -> tuple[dict[str, Tensor], dict[int, str]]:
    """(parts by title, NaN where unreadable; the reason for each unreadable position)."""
    pixels: list[Tensor] = []
    readable: list[int] = []
    errors: dict[int, str] = {}
    for i, image in enumerate(images):
        try:
            pixels.append(to_pixels(image, scorer.input_size))
            readable.append(i)
        except BadImage as error:
            if not skip_broken:
                raise
            errors[i] = str(error)
    scored: dict[str, Tensor] = {}
    for positions, batch in _batches(scorer, pixels):
        where = [readable[p] for p in positions]
        for title, values in _halving(scorer, batch, [prompts[i] for i in where]).items():
            scored.setdefault(title, torch.full((len(images),), torch.nan))[where] = values
    return scored, errors


def _batches(scorer: Scorer, pixels: Sequence[Tensor]) -> Iterator[tuple[list[int], Tensor]]:
    """Images of equal size together; of unequal size each resized first, if the scorer resizes at all."""
    shapes = {p.shape for p in pixels} | {p.dtype for p in pixels} | {p.device for p in pixels}
    if len(shapes) > 3 and scorer.input_size is not None:
        with torch.no_grad():
            pixels = [scorer.prepare(p[None])[0] for p in pixels]
    groups: dict[tuple[torch.Size, torch.dtype, torch.device], list[int]] = {}
    for i, p in enumerate(pixels):
        groups.setdefault((p.shape, p.dtype, p.device), []).append(i)
    for positions in groups.values():
        yield positions, torch.stack([pixels[i] for i in positions])


def _halving(scorer: Scorer, pixels: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    """`Scorer.parts` on the CPU; when memory runs out, both halves one after the other."""
    try:
        with torch.no_grad():
            return {title: values.float().cpu() for title, values in scorer.parts(pixels, prompts).items()}
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(prompts) == 1:
            raise OutOfMemory(
                f"{scorer.device} has no room for a single image ({scorer.info.title} itself takes "
                f"{scorer.memory() / 2**20:.0f} MB); free memory there, or score on the CPU"
            ) from error
    release_memory()
    middle = len(prompts) // 2
    first = _halving(scorer, pixels[:middle], prompts[:middle])
    second = _halving(scorer, pixels[middle:], prompts[middle:])
    return {title: torch.cat((first[title], second[title])) for title in first}
