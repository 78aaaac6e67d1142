"""The report page says what a run did, what it left out, and why."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from sd_imagereward.core.refl import ReflConfig, ReflTrainer, write_report
from toy_generator import ColourScorer, ToyGenerator

CONFIG = ReflConfig(
    model="toy",
    prompts=("a cat", "a dog"),
    steps=4,
    accumulation=1,
    learning_rate=3e-2,
    lora_rank=2,
    denoising_steps=3,
    stop_window=(1, 2),
    evaluate_every=2,
    evaluation_images=2,
    tolerance=0.0,
    dtype="float32",
)


def page(tmp_path: Path, *, sign: float = 1.0, **changes: Any) -> str:
    """sign: -1 for a held-out scorer that dislikes what the reward asks for."""
    config = CONFIG.but(**changes)
    held_out = ColourScorer(0, sign=sign)
    result = ReflTrainer(ToyGenerator(), ColourScorer(0), config, held_out=held_out).train()
    return write_report(tmp_path / "report.html", "run", config, result).read_text(encoding="utf-8")


def test_each_strength_says_whether_the_held_out_score_has_fallen(tmp_path: Path) -> None:
    fallen, sound = page(tmp_path, sign=-1.0), page(tmp_path)
    assert fallen.count("Red has fallen</td></tr>") == 8
    assert sound.count("has fallen</td></tr>") == 0
    assert [text.count('class="chosen"') for text in (fallen, sound)] == [0, 1]
    assert [text.count("The tuned model is no better than the untuned one") for text in (fallen, sound)] == [1, 0]
    for text in (fallen, sound):
        assert re.search(r">0\.0</th><td>[^<]+</td><td>[^<]+</td><td class=\"lead\">untuned</td></tr>", text)
        assert "Held-out score (Red) of the fixed pictures" in text
        assert text.count("data:image/webp;base64") == 4


def test_each_held_out_scorer_and_the_diversity_are_shown(tmp_path: Path) -> None:
    config = CONFIG.but(evaluation_images=4)
    held_out = [ColourScorer(1), ColourScorer(2)]
    result = ReflTrainer(ToyGenerator(), ColourScorer(0), config, held_out=held_out).train()
    text = write_report(tmp_path / "report.html", "run", config, result).read_text(encoding="utf-8")
    for title in ("Green", "Blue"):
        assert f"Held-out score ({title}) of the fixed pictures" in text
        assert f'<th scope="col">{title}</th>' in text
    assert "Diversity of one caption&#39;s pictures" in text
    assert "Diversity" not in page(tmp_path)
    row = re.search(r">0\.0</th>(.*)untuned</td></tr>", text)
    assert row is not None
    assert row[1].count("<td>") == 4
    assert "<td>100%</td>" in row[1]
    assert result.best is not None
    kept = result.best.mean_diversity / result.evaluations[0].mean_diversity
    assert f"Its pictures of one caption differ {kept:.0%} as much as the untuned model&#39;s." in text


def test_a_run_without_a_held_out_scorer_says_so(tmp_path: Path) -> None:
    config = CONFIG.but(held_out="none")
    result = ReflTrainer(ToyGenerator(), ColourScorer(0), config).train()
    text = write_report(tmp_path / "report.html", "run", config, result).read_text(encoding="utf-8")
    assert "No strength is recommended: no held-out scorer watched the run" in text
    assert "<h2>Held-out score" not in text
    assert "<h2>Strength</h2>" not in text
    assert text.count("data:image/webp;base64") == 4
    assert result.best is max(result.evaluations[1:], key=lambda one: one.mean_reward)


def test_the_guidance_of_the_fixed_pictures_is_said(tmp_path: Path) -> None:
    assert "The fixed pictures are drawn at guidance 7.5." in page(tmp_path, sweep=False)
    assert "The fixed pictures are drawn at guidance 3." in page(tmp_path, sweep=False, evaluation_guidance=3.0)
    assert "fixed pictures are drawn" not in page(tmp_path, guard=False)


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    unswept = page(tmp_path, sweep=False)
    assert "No strength is recommended: the strength was not swept." in unswept
    assert "<h2>Strength</h2>" not in unswept
    assert unswept.count("data:image/webp;base64") == 4
    unguarded = page(tmp_path, guard=False)
    assert "No strength is recommended: the guard was off." in unguarded
    assert "There are no pictures before and after: the guard, which makes them, was off." in unguarded
    assert "No strength is recommended: only a LoRA has a strength." in page(tmp_path, tune="full")


def test_settings_and_pictures_are_shown_as_people_read_them(tmp_path: Path) -> None:
    text = page(tmp_path, sweep=False, steps=2)
    for name, value in (("stop_window", "1 to 2"), ("prompts", "2 prompts"), ("lora_alpha", "–"), ("steps", "2")):
        assert re.search(rf">{name}</t[hd]>\s*<td[^>]*>{value}</td>", text), name


def test_the_longer_side_of_a_picture_is_320_pixels(tmp_path: Path) -> None:
    result = ReflTrainer(ToyGenerator(), ColourScorer(0), CONFIG.but(steps=2), held_out=ColourScorer(0)).train()
    large = torch.zeros(2, 3, 640, 480, dtype=torch.uint8)
    shown = dataclasses.replace(result, before=large, after=large)
    text = write_report(tmp_path / "report.html", "run", CONFIG, shown).read_text(encoding="utf-8")
    assert text.count('width="240" height="320"') == 4
