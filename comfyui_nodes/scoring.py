"""Scoring inside ComfyUI: its progress bar, its interrupt, its memory, and nothing scored twice."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence

import comfy.model_management as model_management
import comfy.utils
from torch import Tensor

from ..core.errors import ImageRewardError
from ..core.infotext.syntax import plain_prompt
from ..core.scorers.base import Scorer
from ..core.scoring.score import score_images
from . import images
from .fingerprint import fingerprint
from .hosting import RewardModel
from .scores import Scores

CHUNK = 8  # images scored between two looks at the interrupt flag
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
    memory.update(zip(fresh, scored, strict=True))
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
            f"{len(prompts)} prompts for {count} images: give one prompt for all, or one for each image."
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


def _score_fresh(model: RewardModel, pixels: list[Tensor], prompts: list[str], chunk: int) -> list[Components]:
    if not pixels:
        return []
    bar = comfy.utils.ProgressBar(len(pixels))

    def on_progress(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        model_management.throw_exception_if_processing_interrupted()

    model_management.throw_exception_if_processing_interrupted()
    with model.loaded(min(chunk, len(pixels))) as scorer:
        scores = score_images(scorer, pixels, prompts, batch_size=chunk, on_progress=on_progress)
    columns = {title: values.tolist() for title, values in scores.components.items()}
    return [{title: values[i] for title, values in columns.items()} for i in range(len(pixels))]


def _as_scores(
    scorer: Scorer, results: Sequence[Components], pixels: Sequence[Tensor], prompts: Sequence[str]
) -> Scores:
    columns = {title: tuple(result[title] for result in results) for title in results[0]}
    total = columns.pop(scorer.info.title)
    notes = {i: note for i, image in enumerate(pixels) if (note := images.note(image))}
    return Scores(scorer.info.title, total, columns, tuple(prompts), notes)
