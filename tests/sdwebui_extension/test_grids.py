"""Grids that another script makes of scored images: Prompt matrix, and a cell of the X/Y/Z plot in which nothing passed."""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import ImageFont
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.scoring.written import written_scores

SIZED_LETTERS = "size" in inspect.signature(ImageFont.load_default).parameters  # of Pillow's own font, since 10.1


def prompt_matrix(host: SimpleNamespace, p: Any, scorer: str) -> Any:
    """As the host's script does: it puts a grid in front, with a copy of the first image's text."""
    p.do_not_save_grid = True
    host.job.Job(host.request.Request(scorer), finishes_itself=True).attach(p)
    processed = host.processing.process_images(p)
    processed.images.insert(0, host.images.image_grid(processed.images))
    processed.index_of_first_image = 1
    processed.infotexts.insert(0, processed.infotexts[0])
    return processed


def test_the_grid_of_prompt_matrix_has_the_first_images_text_without_its_score(host: SimpleNamespace, p: Any) -> None:
    processed = prompt_matrix(host, p, "mix(imagereward=1, technical=0.1)")
    grid, first, *others = map(parse_parameters, processed.infotexts)
    assert {"ImageReward", "Technical", "Mix"} <= first.fields.keys()
    assert grid.fields == {
        key: value for key, value in first.fields.items() if key not in ("ImageReward", "Technical", "Mix")
    }
    assert (grid.prompt, grid.negative) == (first.prompt, first.negative)
    assert len(others) == 3
    assert all("Mix" in one.fields for one in others)


def test_the_list_of_texts_is_a_list_to_the_host(host: SimpleNamespace, p: Any) -> None:
    host.job.Job(host.request.Request(), finishes_itself=True).attach(p)
    texts = host.processing.process_images(p).infotexts
    before = list(texts)
    texts.insert(0, "a text of its own, ImageReward: 1.0")
    assert json.loads(json.dumps(texts)) == ["a text of its own, ImageReward: 1.0", *before]
    copied = copy.copy(texts)
    copied.insert(0, before[-1])
    assert written_scores(before[-1])
    assert written_scores(copied[0]) == {}


@pytest.fixture
def cell(host: SimpleNamespace, p: Any) -> Any:
    """`cell(threshold)`: a cell of the plot, of two batches."""

    def cell(threshold: float) -> Any:
        own = copy.copy(p)
        host.xyz._apply(host.xyz._with_threshold)(own, threshold, [threshold])
        return host.processing.process_images(own)

    return cell


@pytest.mark.parametrize("size", [(40, 40), (512, 768), (64, 1024), (24, 8)])
def test_a_cell_without_an_image_says_why(
    host: SimpleNamespace, cell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    noise = host.processing.noise
    monkeypatch.setattr(host.processing, "noise", lambda seed: noise(seed).resize(size))
    best = max(written_scores(text)["ImageReward"] for text in cell(-99).infotexts[1:])
    files = set(tmp_path.rglob("*"))
    processed = cell(99)
    [image], [text] = processed.images, processed.infotexts
    assert text == f"No image passed the threshold 99: {text.partition(': ')[2]}"
    assert f"of 4 was {best:.4f}" in text
    assert image.size == size
    assert len(image.getcolors()) > 1  # something is written on it
    ink = image.convert("L").point(lambda value: 255 * (value < 0x80)).getbbox()
    assert ink is not None
    if SIZED_LETTERS:
        assert 0 < ink[0] < ink[2] < size[0] - 1  # not cut off at the sides
    assert set(tmp_path.rglob("*")) == files


def test_a_cell_with_an_image_is_as_it_was(cell: Any) -> None:
    scores = sorted(written_scores(text)["ImageReward"] for text in cell(-99).infotexts[1:])
    processed = cell(scores[-1])
    assert [written_scores(text).get("ImageReward") for text in processed.infotexts] == [scores[-1]]


def test_outside_the_plot_nothing_is_put_in_the_place_of_rejected_images(host: SimpleNamespace, p: Any) -> None:
    request = host.request.Request(filter=True, threshold=99)
    host.job.Job(request, finishes_itself=True).attach(p)
    processed = host.processing.process_images(p)
    assert processed.images == processed.infotexts == []
