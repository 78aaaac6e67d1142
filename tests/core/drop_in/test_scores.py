"""`RM.load_score` as its clients use it, against what the package answered on the same weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scorer_checkpoints as write
import sd_imagereward as RM
import torch
import torch.nn.functional as F
from drop_in_cases import PROMPTS
from PIL import Image


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [str(path) for path in write.write_golden_pictures(tmp_path)]


@pytest.fixture
def loaded(tmp_path: Path, shared_data: Path) -> Callable[[str], Any]:
    """By name: a small checkpoint in a `download_root` with the original tokenizers, loaded from there."""

    def load(name: str) -> Any:
        write.write_golden_checkpoint(name.lower(), tmp_path)
        for file in (shared_data / "clip-tokenizer").iterdir():
            shutil.copyfile(file, tmp_path / file.name)
        shutil.copyfile(shared_data / "bert-base-uncased-vocab.txt", tmp_path / "vocab.txt")
        return RM.load_score(name, device="cpu", download_root=str(tmp_path))

    return load


@pytest.mark.parametrize("name", ["CLIP", "BLIP", "Aesthetic"])
def test_scores_and_ranks(name: str, loaded: Callable[[str], Any], files: list[str], golden: dict[str, Any]) -> None:
    model, expected = loaded(name), golden[name]
    ranks, rewards = model.inference_rank(PROMPTS[0], files)
    assert ranks == expected["rank"][0]
    assert rewards == pytest.approx(expected["rank"][1], abs=2e-5)
    assert model.score(PROMPTS[0], files[0]) == pytest.approx(expected["score"], abs=2e-5)
    assert model.score(PROMPTS[0], files[:1]) == pytest.approx(expected["score of a list of one"], abs=2e-5)
    assert model.score(PROMPTS[0], Image.open(files[0])) == model.score(PROMPTS[0], files[0])
    with open(files[0], "rb") as file:
        assert model.score(PROMPTS[0], file) == model.score(PROMPTS[0], files[0])
    assert not model.training
    assert model.device == "cpu"


@pytest.mark.parametrize("name", ["CLIP", "BLIP", "Aesthetic"])
@pytest.mark.parametrize("surroundings", [torch.inference_mode, lambda: torch.device("meta")])
def test_loaded_within_another_mode_it_scores_and_trains(
    name: str,
    surroundings: Callable[[], Any],
    loaded: Callable[[str], Any],
    files: list[str],
    golden: dict[str, Any],
    tmp_path: Path,
) -> None:
    loaded(name)  # writes the files
    with surroundings():
        model = RM.load_score(name, device="cpu", download_root=str(tmp_path))
        assert model.score(PROMPTS[0], files[0]) == pytest.approx(golden[name]["score"], abs=2e-5)
    pixels = model.preprocess(files[0])[None]
    tower = model.blip.visual_encoder if name == "BLIP" else model.clip_model.encode_image
    tower(pixels).sum().backward()
    assert any(p.grad is not None for p in model.parameters())


def test_a_prompt_that_nobody_reads_may_be_none(loaded: Callable[[str], Any], files: list[str]) -> None:
    model = loaded("Aesthetic")
    assert model.score(None, files[0]) == model.score("anything", files[0])
    assert len(model.inference_rank(None, files)[1]) == len(files)


def test_a_prompt_that_is_read_must_not_be_none(loaded: Callable[[str], Any], files: list[str]) -> None:
    with pytest.raises(TypeError, match="a prompt as text"):
        loaded("CLIP").score(None, files[0])


def test_clips_towers(loaded: Callable[[str], Any], files: list[str]) -> None:
    model = loaded("CLIP")
    image = model.preprocess(Image.open(files[0])).unsqueeze(0).to(model.device)
    text = model.tokenize([PROMPTS[0]])
    assert text.shape == (1, 77)
    images, texts = model.clip_model.encode_image(image), model.clip_model.encode_text(text)
    assert F.cosine_similarity(images, texts).item() == pytest.approx(model.score(PROMPTS[0], files[0]), abs=1e-6)
    assert torch.equal(model.clip_model.visual(image), images)
    assert not model.clip_model.logit_scale.requires_grad
    by_image, by_text = model.clip_model(image, text)
    assert by_image.item() == pytest.approx(100 * model.score(PROMPTS[0], files[0]), rel=1e-3)
    assert torch.equal(by_image.T, by_text)


def test_blips_towers(loaded: Callable[[str], Any], files: list[str]) -> None:
    model = loaded("BLIP")
    image = model.blip.visual_encoder(model.preprocess(Image.open(files[0]))[None])
    read = model.blip.tokenizer(PROMPTS[0], return_tensors="pt")
    text = model.blip.text_encoder(read.input_ids, attention_mask=read.attention_mask, mode="text")
    cosine = F.cosine_similarity(
        model.blip.vision_proj(image[:, 0]), model.blip.text_proj(text.last_hidden_state[:, 0])
    )
    assert cosine.item() == pytest.approx(model.score(PROMPTS[0], files[0]), abs=1e-6)


def test_aesthetics_tower_and_head(loaded: Callable[[str], Any], files: list[str]) -> None:
    model = loaded("Aesthetic")
    features = F.normalize(model.clip_model.encode_image(model.preprocess(Image.open(files[0]))[None]))
    assert model.mlp(features).item() == pytest.approx(model.score("", files[0]), abs=1e-6)


def test_two_loads_share_nothing(loaded: Callable[[str], Any], files: list[str]) -> None:
    one, other = loaded("CLIP"), loaded("CLIP")
    before = other.score(PROMPTS[0], files[0])
    with torch.no_grad():
        one.clip_model.visual.projection.weight.zero_()
    assert other.score(PROMPTS[0], files[0]) == before
