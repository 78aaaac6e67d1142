"""The snippets of the image-reward package's README, with the import changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import sd_imagereward as RM
import torch
from sd_imagereward.core import load_scorer, score_images
from sd_imagereward.core.errors import BadImage

PROMPT = "a painting of an ocean with clouds and birds, day time, low depth field effect"


@pytest.fixture
def model(tiny_checkpoint: Path) -> RM.ImageReward:
    return RM.load(str(tiny_checkpoint), device="cpu")


def test_the_readme_example(model: RM.ImageReward, pictures: list[Path]) -> None:
    files = [str(path) for path in pictures]
    with torch.no_grad():
        ranking, rewards = model.inference_rank(PROMPT, files)
        single = [model.score(PROMPT, file) for file in files]
    assert sorted(ranking) == [1, 2, 3, 4]
    assert rewards[ranking.index(1)] == max(rewards)
    assert single == pytest.approx(rewards, abs=1e-4)
    assert f"{single[0]:.2f}"


def test_lists_give_lists_whatever_their_length(model: RM.ImageReward, pictures: list[Path]) -> None:
    assert model.score(PROMPT, []) == []
    one = model.score(PROMPT, [str(pictures[0])])
    assert isinstance(one, list)
    assert one == pytest.approx([model.score(PROMPT, str(pictures[0]))], abs=1e-5)
    with pytest.raises(BadImage, match="at least one image"):
        model.inference_rank(PROMPT, [])
    with pytest.raises(BadImage, match="no such image"):
        model.inference_rank(PROMPT, [str(pictures[0]), "gone.png"])


def test_score_gard_is_the_differentiable_score(
    model: RM.ImageReward, pictures: list[Path], tiny_checkpoint: Path
) -> None:
    tokens = model.blip.tokenizer(
        [PROMPT, "cat"], padding="max_length", truncation=True, max_length=35, return_tensors="pt"
    ).to("cpu")
    assert tokens.input_ids.shape == (2, 35)
    image = torch.stack([model.preprocess(path) for path in pictures[:2]]).requires_grad_()
    rewards = model.score_gard(tokens.input_ids, tokens.attention_mask, image)
    assert rewards.shape == (2, 1)
    expected = score_images(load_scorer(tiny_checkpoint), pictures[:2], [PROMPT, "cat"]).total
    assert torch.allclose(rewards[:, 0], expected, atol=1e-5)
    rewards.sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_the_names_are_there() -> None:
    assert RM.available_models() == ["ImageReward-v1.0"]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = RM.nonsense
