"""Rankings of four pictures of a caption, best first by the truth, in ImageRewardDB's layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .drawing import IDS, Artist
from .world import Pixels, paint_caption, random_faults, truth

DRAWN, PAINTED = 2, 2  # pictures of a ranking, by the model and by the painter


def write_rankings(folder: Path, captions: Sequence[str], each: int, model: Path, seed: int) -> Path:
    """`rankings.json` and its pictures, named from the folder above.

    each: rankings of a caption, each of drawings without guidance and of paintings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 3, each])
    names = [(text, number) for text in captions for number in range(each)]
    noises = [(text, f"{seed}/{number}/{n}") for text, number in names for n in range(DRAWN)]
    drawings = iter(Artist(model, guidance=1.0).draw(noises))
    records = []
    for text, number in names:
        pictures = [next(drawings) for _ in range(DRAWN)]
        pictures += [paint_caption(text, rng, random_faults(rng, 1.2)) for _ in range(PAINTED)]
        records.append(_record(folder, f"{IDS[text]}_{number}", text, pictures))
    path = folder / "rankings.json"
    path.write_text(json.dumps(records, indent=1), encoding="utf-8")
    return path


def _record(folder: Path, name: str, text: str, pictures: Sequence[Pixels]) -> dict[str, object]:
    files = [f"{name}_{n}.png" for n in range(len(pictures))]
    for file, pixels in zip(files, pictures, strict=True):
        Image.fromarray(pixels).save(folder / file)
    values = [round(truth(pixels, text), 2) for pixels in pictures]
    ranks = [1 + sum(other > value for other in values) for value in values]
    return {"id": name, "prompt": text, "generations": [f"{folder.name}/{file}" for file in files], "ranking": ranks}
