"""The benchmark of text-to-image models: finding images, means, win rates, files, and the reference's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from reference.synthetic import MODELS, benchmark_score
from sd_imagereward.core import ImageRewardError
from sd_imagereward.core.preference.benchmark import (
    Generation,
    Prompt,
    benchmark_models,
    find_generations,
    read_prompts,
)

from .colour_scorers import ColourScorer, Numbered, number_of

PROMPTS = [Prompt("005-1", "a cat"), Prompt("005-2", "a dog")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Model `warm` makes redder pictures of the first prompt, and the same of the second."""
    reds = {"warm": {"005-1": (200, 220), "005-2": (50, 50)}, "cold": {"005-1": (100, 120), "005-2": (40, 60)}}
    for model, by_prompt in reds.items():
        (tmp_path / model).mkdir()
        for prompt, values in by_prompt.items():
            for n, red in enumerate(values):
                Image.new("RGB", (4, 4), (red, 0, 0)).save(tmp_path / model / f"{prompt}_{n}.png")
    return tmp_path


def red(name: str) -> ColourScorer:
    return ColourScorer(lambda r, g, b: r)


@pytest.mark.parametrize("tail", ["", "/<model>/<id>_<n>.png", "/{model}/{id}_{n}.png"])
def test_images_are_found_by_pattern(folder: Path, tail: str):
    found = find_generations(f"{folder}{tail}", PROMPTS)
    assert [(g.model, g.prompt.id, g.path.name) for g in found[:3]] == [
        ("cold", "005-1", "005-1_0.png"),
        ("cold", "005-1", "005-1_1.png"),
        ("cold", "005-2", "005-2_0.png"),
    ]
    assert len(found) == 8
    assert {g.model for g in find_generations(f"{folder}{tail}", PROMPTS, ["warm"])} == {"warm"}


def test_ten_images_come_in_the_order_of_their_numbers(tmp_path: Path):
    (tmp_path / "m").mkdir()
    for n in range(11):
        (tmp_path / "m" / f"005-1_{n}.png").touch()
    assert [g.path.stem for g in find_generations(str(tmp_path), PROMPTS)][-2:] == ["005-1_9", "005-1_10"]


def test_what_is_not_found_is_said(folder: Path):
    with pytest.raises(ImageRewardError, match="lacks <n>"):
        find_generations(f"{folder}/<model>/<id>.png", PROMPTS)
    with pytest.raises(ImageRewardError, match="no image of the model 'hot'"):
        find_generations(str(folder), PROMPTS, ["warm", "hot"])
    with pytest.raises(ImageRewardError, match="no image of these prompts"):
        find_generations(str(folder), [Prompt("other", "x")])


def test_means_win_rates_and_files(folder: Path, tmp_path: Path):
    result = benchmark_models(PROMPTS, find_generations(str(folder), PROMPTS), ["red"], load=red)
    assert [(m.model, m.mean.value) for m in result.results["red"]] == [("warm", 130.0), ("cold", 80.0)]
    assert result.win_rates("red") == {"warm": {"cold": 0.75}, "cold": {"warm": 0.25}}
    page, chart = result.save(tmp_path / "out")
    assert Image.open(chart).size[0] > 100
    for text in ("<svg", "130.0000", "75.0%", "warm", "2 prompts"):
        assert text in page.read_text(encoding="utf-8")
    rows = json.loads((tmp_path / "out" / "red" / "red-benchmark-cold-result.json").read_text())
    assert rows[0] == {"id": "005-1", "prompt": "a cat", "mean_score": 110.0, "rewards": [100.0, 120.0]}
    assert json.loads((tmp_path / "out" / "red-benchmark-results.json").read_text()) == {"warm": 130.0, "cold": 80.0}
    assert "75.0%" in (tmp_path / "out" / "benchmark.md").read_text()


def test_a_model_without_an_image_for_a_prompt_is_told(folder: Path):
    for n in range(2):
        (folder / "cold" / f"005-2_{n}.png").write_bytes(b"no picture")
    result = benchmark_models(PROMPTS, find_generations(str(folder), PROMPTS), ["red"], load=red)
    assert result.gaps == {"cold": 1}
    assert len(result.errors) == 2
    assert result.results["red"][1].mean.value == 110.0


def test_equal_to_the_reference_on_synthetic_scores(shared_data, repository):
    goldens = json.loads((repository / "tests/reference/preference_goldens.json").read_text())["benchmark"]
    prompts = read_prompts(shared_data / "benchmark-prompts.json")
    scores: list[float] = []

    def stand_in(model: str, stem: str) -> Numbered:
        scores.append(benchmark_score(model, stem))
        return Numbered(len(scores) - 1, f"{model}/{stem}")

    generations = [
        Generation(model, prompt, stand_in(model, f"{prompt.id}_{n}"))
        for model in MODELS
        for prompt in prompts
        for n in range(3)
    ]
    scorer = ColourScorer(lambda r, g, b: scores[number_of(r, g, b)])
    result = benchmark_models(prompts, generations, ["imagereward"], load=lambda name: scorer, batch_size=64)
    assert {m.model: m.mean.value for m in result.results["imagereward"]} == goldens


def test_published_scores_stand_beside_the_full_set_alone(shared_data):
    prompts = read_prompts(shared_data / "benchmark-prompts.json")
    for images, shown in ((10, True), (9, False)):
        generations = [
            Generation("sd1-4", prompt, Numbered(7, f"{prompt.id}_{n}")) for prompt in prompts for n in range(images)
        ]
        scorer = ColourScorer(lambda r, g, b: b)
        result = benchmark_models(
            prompts, generations, ["imagereward"], load=lambda name, scorer=scorer: scorer, batch_size=64
        )
        assert ("0.1344" in result.markdown()) == shown
