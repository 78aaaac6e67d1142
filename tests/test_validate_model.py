"""examples/validate_model.py: from topics to a mean reward, with a stand-in for the generator, and with diffusers' own."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from pipelines import pipeline
from scorer_checkpoints import write_clip
from sd_imagereward.core import load_scorer
from sd_imagereward.core.infotext.scores import read_scores
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.prompts.embedders import load_embedder
from sd_imagereward.core.prompts.library import PromptLibrary


@pytest.fixture(scope="module")
def example(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("validate_model", repository / "examples" / "validate_model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["validate_model"] = module
    spec.loader.exec_module(module)
    return module


def test_prompts_images_and_the_mean_of_every_component(example: ModuleType, tmp_path: Path):
    clip = write_clip(tmp_path / "clip")
    library = PromptLibrary(["a red cat", "the city at night", "a dog"], load_embedder(str(clip), device="cpu"))
    asked: list[tuple[str, int]] = []

    def generate(prompt: str, seed: int) -> Image.Image:
        asked.append((prompt, seed))
        noise = torch.randint(0, 256, (48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
        return Image.fromarray(noise.numpy())

    scorer = load_scorer(f"mix(technical=1, {clip}=2)", device="cpu")
    result = example.validate(generate, library, ["a dog", "a red cat"], scorer, tmp_path / "out", n=2, seed=5)
    assert [seed for _, seed in asked] == [5, 6, 7, 8]
    assert (asked[0][0], asked[2][0]) == ("a dog", "a red cat")
    total, *components = result.rewards
    assert len(components) >= 2
    assert result.mean(total)[0] == pytest.approx(sum(result.rewards[total]) / 4)
    assert "4 images of 2 topics" in result.table()
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["prompts"] == [prompt for prompt, _ in asked]
    inside = read_scores(read_parameters(tmp_path / "out" / "0003.png"), titles=[total])
    assert inside[total] == pytest.approx(result.rewards[total][3], abs=1e-4)


def test_the_script_with_a_tiny_stable_diffusion(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("diffusers", reason="pip install -e '.[refl]' to generate with diffusers")
    pipeline("sd1", tmp_path / "vocabulary").save_pretrained(tmp_path / "model")
    clip = write_clip(tmp_path / "clip")
    (tmp_path / "prompts.txt").write_text("a red cat\nthe city at night\na dog\n")
    call = [str(tmp_path / "model"), "a dog", "a cat", "--library", str(tmp_path / "prompts.txt"), "-n", "1"]
    call += ["--embedder", str(clip), "--scorer", f"mix(technical=1, {clip}=2)", "--steps", "2", "--device", "cpu"]
    example.main([*call, "--output", str(tmp_path / "out")])
    first = capsys.readouterr().out
    assert "2 images of 2 topics" in first
    assert Image.open(tmp_path / "out" / "0000.png").size == (64, 64)
    example.main([*call, "--output", str(tmp_path / "again")])
    assert capsys.readouterr().out == first  # the same seed, the same noise
