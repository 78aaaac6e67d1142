"""Scoring inside ComfyUI: its progress bar, its interrupt, its memory, and nothing scored twice."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import comfy.model_management as model_management
import comfy.utils
from torch import Tensor, nn

from ..core.errors import ImageRewardError
from ..core.files.console import counted
from ..core.infotext.syntax import plain_prompt
from ..core.scorers.base import Scorer
from ..core.scoring.score import score_images
from . import images
from .fingerprint import fingerprint
from .hosting import RewardModel
from .scores import Scores

CHUNK = 8  # images scored at once, at most
CHUNK_SECONDS = 0.5  # what a chunk should take: the progress bar moves after each
GROWTH = 4  # a chunk has at most so many times the images of the one before
KEPT_SCORES = 4096  # scores kept for each scorer

Key = tuple[str, str]  # fingerprint of the image, prompt
Components = dict[str, float]  # by title: the score under the scorer's own, a mixture's components under theirs

_memories: weakref.WeakKeyDictionary[Scorer, OrderedDict[Key, Components]] = weakref.WeakKeyDictionary()


def score(model: RewardModel, pixels: Sequence[Tensor], prompts: Sequence[str], chunk: int = CHUNK) -> Scores:
    """Pixels (3, H, W) in [0, 1], of any sizes, and a prompt each -> their Scores.

    An image that this scorer has already scored with this prompt is not scored again, whatever node asks: so another
    threshold, another top-k or a second node costs nothing.
    """
    scorer = model.scorer
    memory = _memories.setdefault(scorer, OrderedDict())
    keys = [(fingerprint(image), prompt) for image, prompt in zip(pixels, prompts, strict=True)]
    fresh = {key: i for i, key in enumerate(keys) if key not in memory}
    scored = _score_fresh(model, [pixels[i] for i in fresh.values()], [prompts[i] for i in fresh.values()], chunk)
    for key, components in zip(fresh, scored, strict=True):
        memory[key] = components  # one by one: an interrupt keeps them
    results = [memory[key] for key in keys]
    for key in keys:
        memory.move_to_end(key)
    while len(memory) > KEPT_SCORES:
        memory.popitem(last=False)
    return _as_scores(scorer, results, pixels, prompts)


def prompts_for(model: RewardModel, prompts: Sequence[str], count: int, plain: bool) -> list[str]:
    """One prompt for `count` images, or one each -> one each, without ComfyUI's syntax if `plain`."""
    if len(prompts) not in (1, count):
        raise ImageRewardError(
            f"{counted(len(prompts), 'prompt')} for {counted(count, 'image')}: give one prompt for all, or one for each image."
        )
    given = list(prompts) * count if len(prompts) == 1 else list(prompts)
    if not model.scorer.info.reads_prompt:
        return given
    return [_readable(prompt, plain, model.scorer.info.title) for prompt in given]


def _readable(prompt: str, plain: bool, title: str) -> str:
    read = plain_prompt(prompt, "ComfyUI") if plain else prompt
    if read.strip():
        return read
    if prompt.strip():
        raise ImageRewardError(
            f"Nothing is left of the prompt {prompt!r} without its weights and embeddings. Write what the image should "
            "show, or switch 'plain_prompt' off."
        )
    raise ImageRewardError(
        f"No prompt: {title} scores how well an image shows its prompt. Type it into 'prompt', or connect the text that "
        "the image was made from."
    )


def _score_fresh(
    model: RewardModel, pixels: list[Tensor], prompts: list[str], most: int
) -> Generator[Components, None, None]:
    if not pixels:
        return
    bar = comfy.utils.ProgressBar(len(pixels))
    model_management.throw_exception_if_processing_interrupted()
    with model.loaded(min(most, len(pixels))) as scorer, _interruptible(scorer.network):
        for chunk in chunks(_work(scorer, pixels), most):
            scores = score_images(scorer, pixels[chunk], prompts[chunk], batch_size=most)
            columns = {title: values.tolist() for title, values in scores.components.items()}
            yield from ({title: values[i] for title, values in columns.items()} for i in range(len(scores.total)))
            bar.update_absolute(min(chunk.stop, len(pixels)), len(pixels))
            model_management.throw_exception_if_processing_interrupted()


def chunks(work: Sequence[float], most: int) -> Iterator[slice]:
    """Cuts a row of images into chunks that take about `CHUNK_SECONDS` each, by the time that the last one took.

    work: what each image takes, in any unit; most: images in a chunk.
    """
    start, end = 0, 1
    while start < len(work):
        began = perf_counter()
        yield slice(start, end)
        pace = sum(work[start:end]) / max(perf_counter() - began, 1e-6)
        longest = min(most, GROWTH * (end - start))
        start, end = end, end + 1
        while end < len(work) and end - start < longest and sum(work[start : end + 1]) <= pace * CHUNK_SECONDS:
            end += 1


def _work(scorer: Scorer, pixels: Sequence[Tensor]) -> list[int]:
    """A scorer that sees images in full size takes longer for larger ones."""
    return [image[0].numel() if scorer.input_size is None else 1 for image in pixels]


@contextmanager
def _interruptible(network: nn.Module) -> Iterator[None]:
    """ComfyUI's interrupt is heeded between two layers: on a CPU a single image may take seconds."""

    def look(*_: Any) -> None:
        model_management.throw_exception_if_processing_interrupted()

    layers = [module for module in network.modules() if next(module.children(), None) is None]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _as_scores(
    scorer: Scorer, results: Sequence[Components], pixels: Sequence[Tensor], prompts: Sequence[str]
) -> Scores:
    columns = {title: tuple(result[title] for result in results) for title in results[0]}
    total = columns.pop(scorer.info.title)
    notes = {i: note for i, image in enumerate(pixels) if (note := images.note(image))}
    return Scores(scorer.info.title, total, columns, tuple(prompts), notes)
