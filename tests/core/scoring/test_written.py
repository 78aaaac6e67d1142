"""Which scores in a file count: those of a known scorer for this very picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from sd_imagereward.core.pictures.opening import open_header
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.scoring.written import matching_scores

SCORES = {"imagereward": 0.5812, "technical": -1.5}
BASE = "a (fox:1.2)\nSteps: 1, Sampler: Euler, Seed: 3, Size: {size}{more}, ImageReward: 0.5812, Technical: -1.5000"


def written(path: Path, parameters: str, size: tuple[int, int] = (64, 48), **chunks: str) -> dict[str, float]:
    save_image(Image.new("RGB", size), path, parameters=parameters, chunks=chunks)
    return matching_scores(open_header(path))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_scores_of_the_picture_count(tmp_path: Path, name: str) -> None:
    assert written(tmp_path / name, BASE.format(size="64x48", more="")) == SCORES


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ("Size: 32x24, Hires upscale: 2", (64, 48)),
        ("Size: 32x24, Hires upscale: 1.3, Hires steps: 4", (40, 31)),  # 41.6 x 31.2
        ("Size: 32x24, Hires resize: 64x0", (64, 48)),
        ("Size: 32x24, Hires scale: 2.0, Hires size: 64x48", (64, 48)),
    ],
)
def test_the_second_pass_makes_it_larger(tmp_path: Path, fields: str, size: tuple[int, int]) -> None:
    text = BASE.replace("Size: {size}{more}", fields)
    assert written(tmp_path / "a.png", text, size) == SCORES
    assert written(tmp_path / "b.png", text, (32, 24)) == {}


@pytest.mark.parametrize(
    "text",
    [
        BASE.format(size="128x96", more=""),  # made smaller since
        BASE.format(size="48x64", more=""),  # turned
        BASE.format(size="64x48", more=", ImageReward raw prompt: True"),
        BASE.replace("Size: {size}{more}, ", ""),
        "a fox\nSteps: 1, Seed: 3, Size: 64x48, Mix: 0.5812, aesthetic_score: 6.12",
        "a fox\nSteps: 1, Seed: 3, Size: 64x48, ImageReward: nan",
        "a fox, ImageReward: 3",
    ],
)
def test_others_do_not(tmp_path: Path, text: str) -> None:
    assert written(tmp_path / "a.png", text) == {}


def test_after_extras_only_what_was_scored_there(tmp_path: Path) -> None:
    text = BASE.format(size="64x48", more="")
    done = "Postprocess upscale by: 2, Postprocess upscaler: Lanczos"
    assert written(tmp_path / "a.png", text, (128, 96), postprocessing=done) == {}
    assert written(tmp_path / "b.png", text, (64, 48), postprocessing="Postprocess GFPGAN visibility: 1.0") == {}
    again = {"imagereward": 0.5812}
    assert written(tmp_path / "c.png", text, (128, 96), postprocessing=f"{done}, ImageReward: 0.5812") == again
    assert written(tmp_path / "d.png", text, (128, 96), postprocessing=f"{done}, ImageReward: 0.1000") == {}
