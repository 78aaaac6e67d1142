"""The prompts of a run, and the captioned images of the pre-training loss, from whatever file they are kept in."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import BadImage, ImageRewardError, extra_needed
from ..files.rows import PROMPT_FILES, TEXT_NAMES, first_of, read_prompt_rows
from ..pictures.pixels import to_pixels
from .config import ReflConfig
from .randomness import SampleNoise

log = logging.getLogger(__name__)

IMAGE_NAMES = ("image", "image_path", "file_name", "path")


def read_prompts(source: str | Sequence[str]) -> list[str]:
    """Prompts from a .txt (one a line), .csv, .tsv, .json, .jsonl or .parquet (under text, prompt or caption), a `datasets` id,
    or a sequence.

    A .json may be a list of strings or of records, as the reference's refl_data.json. Empty prompts are refused with their
    place: an empty line is more often a mistake than a wish. Blank lines at the end of a text file are not prompts.
    """
    if not isinstance(source, str):
        return _checked(list(source), "the sequence of prompts")
    if not source:
        raise ImageRewardError(
            "no prompts: give a file (.txt, .csv, .json, .jsonl), a `datasets` id or a sequence of prompts"
        )
    return _checked([_value(record, TEXT_NAMES, source) for record in read_records(source)], source)


@dataclass(frozen=True)
class RunInputs:
    """What a run reads before it begins. A mistake in it costs seconds then, and hours later."""

    prompts: list[str]
    evaluation_prompts: list[str]  # one for each of the fixed pictures
    captioned: CaptionedImages | None  # None without the pre-training loss

    @classmethod
    def read(cls, config: ReflConfig) -> RunInputs:
        """Raises ImageRewardError for settings that cannot work, and for files that cannot be read."""
        config.check()
        prompts = read_prompts(config.prompts)
        fixed = read_prompts(config.evaluation_prompts) if config.evaluation_prompts else prompts
        captioned = CaptionedImages.read(config.pretraining_data) if config.pretraining_data else None
        return cls(prompts, [fixed[n % len(fixed)] for n in range(config.evaluation_images)], captioned)


def read_records(source: str, columns: Sequence[str] = TEXT_NAMES) -> list[Any]:
    """Rows or lines of a file, or of a `datasets` id (its `train` split; `id:split` for another)."""
    path = Path(source)
    if path.suffix.lower() in PROMPT_FILES:
        return read_prompt_rows(path, columns)
    if path.is_file():
        raise ImageRewardError(f"{path}: its ending must be one of {', '.join(PROMPT_FILES)}")
    return _records_of_dataset(source)


@dataclass(frozen=True)
class CaptionedImages:
    """Images with captions for the pre-training loss: (pixels, prompts, micro-conditioning) of any positions."""

    images: Sequence[Any]
    prompts: Sequence[str]
    unreadable: dict[int, str] = field(default_factory=dict)  # positions of images that could not be read, and why

    @classmethod
    def read(cls, source: str) -> CaptionedImages:
        records = read_records(source, (*TEXT_NAMES, *IMAGE_NAMES))
        if not records:
            raise ImageRewardError(f"{source} holds no rows")
        folder = Path(source).parent
        images = [_value(record, IMAGE_NAMES, source) for record in records]
        placed = [folder / image if isinstance(image, str) else image for image in images]
        missing = [str(image) for image in placed if isinstance(image, Path) and not os.path.isfile(image)]
        if missing:
            raise ImageRewardError(
                f"{len(missing)} of {len(placed)} images of {source} are not there (first: {missing[0]}): the pre-training "
                f"loss needs the pictures themselves; a list of prompts alone (the reference's refl_data.json) cannot drive it"
            )
        return cls(placed, _checked([_value(record, TEXT_NAMES, source) for record in records], source))

    def batch(
        self, positions: Sequence[int], width: int, height: int, noise: SampleNoise
    ) -> tuple[Tensor, list[str], list[tuple[int, int, int, int]]]:
        """Pixels (B, 3, height, width) in 0..1: shorter side fitted, random crop; (original h, w, crop top, left) of each.

        An image that cannot be read is left out: the next one that can stands in for it, with its own caption.
        """
        places = noise.integers(2**20).tolist()
        cut = [self._cut(n, width, height, place) for n, place in zip(positions, places, strict=True)]
        return (
            torch.stack([pixels for _, pixels, _ in cut]),
            [self.prompts[n] for n, _, _ in cut],
            [where for _, _, where in cut],
        )

    def _cut(self, first: int, width: int, height: int, place: int) -> tuple[int, Tensor, tuple[int, int, int, int]]:
        for step in range(len(self.images)):
            n = (first + step) % len(self.images)
            if n in self.unreadable:
                continue
            try:
                return n, *_fit_and_crop(self.images[n], width, height, place)
            except BadImage as error:
                self.unreadable[n] = str(error)
                log.warning("left out of the pre-training loss: %s", error)
        raise ImageRewardError(
            f"not one of the {len(self.images)} captioned images can be read; the first error: {self.unreadable[first]}"
        )


def _fit_and_crop(image: Any, width: int, height: int, place: int) -> tuple[Tensor, tuple[int, int, int, int]]:
    pixels = to_pixels(image)
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
    tall, wide = pixels.shape[-2:]
    scale = max(width / wide, height / tall)
    size = (max(height, round(tall * scale)), max(width, round(wide * scale)))
    fitted = F.interpolate(pixels[None], size=size, mode="bilinear", antialias=True)[0]
    top = place % (size[0] - height + 1)
    left = place % (size[1] - width + 1)
    return fitted[:, top : top + height, left : left + width], (tall, wide, top, left)


def _records_of_dataset(source: str) -> list[Any]:
    name, _, split = source.partition(":")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImageRewardError(
            f"'{source}' is no file, and reading it as a `datasets` id needs that package: {extra_needed('refl')}"
        ) from error
    try:
        return list(load_dataset(name, split=split or "train"))
    except Exception as error:  # datasets raises errors of a dozen packages
        raise ImageRewardError(f"'{source}' is neither a file nor a data set that can be had: {error}") from error


def _value(record: Any, names: Sequence[str], source: str) -> Any:
    """What a record has under one of the names, "" when that place is empty."""
    if isinstance(record, str) and names is TEXT_NAMES:
        return record
    if not isinstance(record, dict):
        raise ImageRewardError(
            f"{source} must hold records with one of {', '.join(names)}, holds {type(record).__name__}"
        )
    if not any(name in record for name in names):
        raise ImageRewardError(
            f"{source} has columns {', '.join(map(str, record))}; one of {', '.join(names)} is needed"
        )
    value = first_of(record, names)
    return "" if value is None else value


def _checked(prompts: list[Any], source: str) -> list[str]:
    if not prompts:
        raise ImageRewardError(f"{source} holds no prompts")
    for number, prompt in enumerate(prompts, 1):
        if not isinstance(prompt, str) or not prompt.strip():
            raise ImageRewardError(f"prompt {number} of {source} is empty: remove the line, or write a prompt there")
    return [prompt.strip() for prompt in prompts]
