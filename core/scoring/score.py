"""Many images at once: read, resized, batched, scored; memory that runs out halves the batch and goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import BadImage, ImageRewardError, OutOfMemory
from ..files.console import counted
from ..networks.devices import is_out_of_memory, release_memory
from ..pictures.opening import Picture, open_picture
from ..pictures.origin import Origin
from ..pictures.pixels import ImageLike, to_pixels
from ..pictures.prompt_in_file import find_origin, origin_of
from ..pictures.reading import read_in_order
from ..pictures.texts import read_texts
from ..scorers.base import Scorer, ScorerInfo
from ..scorers.mix import TITLE as MIXTURE

OnProgress = Callable[[int, int], None]
Prompts = str | Sequence[str | None] | None
_MOST_FULL_SIZE = 32  # images read ahead where the scorer sees them in full size


@dataclass
class ImageScores:
    """What a scorer said of N images."""

    total: Tensor  # (N,) float32 on the CPU, NaN where an image could not be scored
    components: dict[str, Tensor]  # the components by title, each (N,)
    info: ScorerInfo
    errors: dict[int, str] = field(default_factory=dict)  # position -> why the image could not be scored
    prompts: list[str] = field(default_factory=list)  # N, those that were read out of the files among them
    origins: list[Origin] = field(default_factory=list)  # N, of those prompts; an empty one for a prompt that was given

    def to_write(self, position: int, *, parts: bool = False) -> dict[str, float]:
        """What the file of an image is to say, by title: the total with a mixture's members, or with all its `parts`."""
        titles = self.components if parts or self.info.title == MIXTURE else [self.info.title]
        return {title: float(self.components[title][position]) for title in titles}


def get_reward_score(
    scorer: Scorer, images: object, prompts: Prompts = None, *, batch_size: int | None = None
) -> tuple[float, dict[str, Tensor]]:
    """The mean score of N images, and every component of it: a mixture's members, or the scorer itself.

    Args:
        scorer: what scores.
        images: as for `score_images`.
        prompts: as for `score_images`.
        batch_size: images at once; None takes 64 on a GPU, 8 on a CPU.

    Returns:
        (mean, components): the mean over the images, and by title a float32 tensor (N,) on the CPU.

    Raises:
        BadImage: an image cannot be scored; see `score_images` for the other errors.
    """
    scores = score_images(scorer, images, prompts, batch_size=batch_size)
    components = {title: values for title, values in scores.components.items() if title != scorer.info.title}
    return float(scores.total.mean()), components or scores.components


def score_images(
    scorer: Scorer,
    images: object,
    prompts: Prompts = None,
    *,
    batch_size: int | None = None,
    skip_broken: bool = False,
    upright: bool = True,
    strict_prompts: bool = False,
    on_progress: OnProgress | None = None,
) -> ImageScores:
    """Scores images of any kind and size. Files are read, decoded and resized by threads while the scorer works.

    Args:
        scorer: what scores; see `load_scorer`.
        images: one image or a sequence of them: paths, `Picture`s, PIL images, numpy arrays (H, W, 3), torch tensors
            (3, H, W); or one array or tensor of four dimensions, the first of which counts images.
        prompts: one for all, or N, in which None is the prompt that the image file itself brings along; none at all for a
            scorer that reads none.
        batch_size: images at once; None takes 64 on a GPU, 8 on a CPU. Halved when memory runs out.
        skip_broken: an image that cannot be scored has NaN and is listed in `errors` instead of raising BadImage.
        upright: False takes images as they are stored, whatever their EXIF orientation says.
        strict_prompts: an image whose own prompt is uncertain cannot be scored by a scorer that reads prompts.
        on_progress: called with (done, N) after each batch; what it raises stops the work.

    Returns:
        The scores (N,), higher is better, with components, prompts and errors.

    Raises:
        BadImage: an image cannot be read, or has no prompt for a scorer that reads one.
        ImageRewardError: the scorer reads prompts and none were given.
        OutOfMemory: the device has no room for a single image.
        ValueError: there is neither one prompt nor one for each image.
    """
    items = as_list(images)
    given = as_prompts(prompts, len(items), scorer.info)
    size = batch_size or default_batch_size(scorer)
    waiting = 2 * size if scorer.input_size is not None else max(size, min(2 * size, _MOST_FULL_SIZE))
    parts = {scorer.info.title: torch.full((len(items),), torch.nan, dtype=torch.float32, device="cpu")}
    errors: dict[int, str] = {}
    texts: list[str] = []
    origins: list[Origin] = []

    def read(position: int) -> _Read:
        try:
            return _read(scorer, items[position], given[position], upright, strict_prompts)
        except BadImage as error:
            return _Read(given[position] or "", error=error)

    with closing(_reading(items, read, waiting)) as images_read:
        while batch := list(islice(images_read, size)):
            chunk = slice(len(texts), len(texts) + len(batch))
            broken = {chunk.start + i: one.error for i, one in enumerate(batch) if one.error is not None}
            if broken and not skip_broken:
                raise next(iter(broken.values()))
            errors |= {position: str(error) for position, error in broken.items()}
            for title, values in _score_batch(scorer, batch).items():
                parts.setdefault(title, torch.full((len(items),), torch.nan, dtype=torch.float32, device="cpu"))[
                    chunk
                ] = values
            texts += [one.prompt for one in batch]
            origins += [one.origin for one in batch]
            if on_progress is not None:
                on_progress(len(texts), len(items))
    return ImageScores(parts[scorer.info.title], parts, scorer.info, errors, texts, origins)


@dataclass
class _Read:
    """An image as the scorer is to see it, or why there is none."""

    prompt: str
    pixels: Tensor | None = None
    error: BadImage | None = None
    origin: Origin = field(default_factory=Origin)


def _reading(items: Sequence[ImageLike], read: Callable[[int], _Read], waiting: int) -> Generator[_Read, None, None]:
    """Files by threads; anything else here, since it is at hand already, and may belong to this thread alone."""
    if all(isinstance(item, (str, os.PathLike)) for item in items):
        return read_in_order(range(len(items)), read, waiting=waiting)
    return (read(position) for position in range(len(items)))


def _read(scorer: Scorer, image: ImageLike, prompt: str | None, upright: bool, strict: bool) -> _Read:
    if isinstance(image, (str, os.PathLike)):
        image = open_picture(image)
    origin = own_origin(image) if prompt is None else Origin()
    prompt = origin.plain if prompt is None else prompt
    if scorer.info.reads_prompt:
        if origin.uncertain and (strict or prompt is None):
            raise BadImage(f"its prompt is uncertain: {origin.uncertain}")
        if prompt is None:
            raise BadImage("no prompt for it: none was given, and the image brings none along")
    return _Read(prompt or "", to_pixels(image, scorer.input_size, upright=upright), origin=origin)


def as_list(images: object) -> list[ImageLike]:
    """One image or a sequence or batch of them -> a list of single images."""
    if isinstance(images, Tensor) and images.ndim == 4:
        return list(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    if isinstance(images, (list, tuple)):
        return list(images)
    return [images]


def as_prompts(prompts: Prompts, count: int, info: ScorerInfo) -> list[str | None]:
    """A prompt for each of `count` images. Raises ImageRewardError for none at all where the scorer reads them."""
    if prompts is None:
        if info.reads_prompt:
            raise ImageRewardError(
                f"{info.title} reads the prompt: expected one prompt, or one for each of {counted(count, 'image')}, got None"
            )
        return [""] * count
    texts: list[str | None] = [prompts] * count if isinstance(prompts, str) else list(prompts)
    if len(texts) != count:
        raise ValueError(f"expected one prompt, or one for each of {counted(count, 'image')}, got {len(texts)}")
    wrong = next((text for text in texts if text is not None and not isinstance(text, str)), None)
    if wrong is not None:
        raise TypeError(f"expected prompts as text, got {type(wrong).__name__}")
    return texts


def own_origin(image: ImageLike) -> Origin:
    """What an image says of its making, or a text file beside it."""
    if isinstance(image, Picture):
        return find_origin(image.path, image.image)
    return origin_of(read_texts(image)) if isinstance(image, Image.Image) else Origin()


def default_batch_size(scorer: Scorer) -> int:
    """What keeps a device busy: more than this is hardly faster and takes memory from the host."""
    return 8 if scorer.device.type == "cpu" else 64


def _score_batch(scorer: Scorer, batch: Sequence[_Read]) -> dict[str, Tensor]:
    """Parts by title, each (len(batch),), NaN where there is no image."""
    where = [i for i, one in enumerate(batch) if one.pixels is not None]
    pixels = [one.pixels for one in batch if one.pixels is not None]
    scored: dict[str, Tensor] = {}
    for positions, stacked in _batches(scorer, pixels):
        rows = [where[p] for p in positions]
        for title, values in _halving(scorer, stacked, [batch[i].prompt for i in rows]).items():
            scored.setdefault(title, torch.full((len(batch),), torch.nan, dtype=torch.float32, device="cpu"))[rows] = (
                values
            )
    return scored


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
        # A single one is not copied: it may be large.
        yield (
            positions,
            pixels[positions[0]][None] if len(positions) == 1 else torch.stack([pixels[i] for i in positions]),
        )


def _halving(scorer: Scorer, pixels: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    """`Scorer.components` on the CPU; when memory runs out, both halves one after the other."""
    try:
        with torch.no_grad():
            return {title: values.float().cpu() for title, values in scorer.components(pixels, prompts).items()}
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
