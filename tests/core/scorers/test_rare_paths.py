"""Ways through the scorers that a whole scoring seldom takes."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest
import scorer_checkpoints
import torch
from safetensors.torch import load_file, save_file
from sd_imagereward.core.errors import ImageRewardError, UnknownCheckpoint
from sd_imagereward.core.pictures.resize import resize_crop
from sd_imagereward.core.scorers import base, pickscore, technical_measures
from sd_imagereward.core.scorers.base import ScorerInfo
from sd_imagereward.core.scorers.inspection import faults_of
from sd_imagereward.core.scorers.int8 import quantise_linears
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scorers.registry import scorer_infos
from sd_imagereward.core.weights.catalogue import WeightFile
from torch import nn


@pytest.mark.parametrize("lacking", ["an engine", "a function"])
def test_a_torch_without_int8_kernels_is_named(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if lacking == "an engine":
        monkeypatch.setattr("torch.backends.quantized", type("Quantized", (), {"engine": "none"}))
    else:
        monkeypatch.delattr(torch, "quantize_per_channel")
    with pytest.raises(ImageRewardError, match="no int8 kernels; use fp32"):
        quantise_linears(nn.Linear(512, 512))


def test_pickscore_rounds_pixels_that_need_no_gradient_though_others_might(tmp_path: Path) -> None:
    path = scorer_checkpoints.write_clip(tmp_path, name="PickScore_v1.safetensors", **scorer_checkpoints.TINY_H)
    scorer = load_scorer(path, device="cpu")
    pixels = torch.rand(1, 3, 301, 250, generator=torch.Generator().manual_seed(0))
    with torch.enable_grad():
        prepared = scorer.prepare(pixels)
        smooth = scorer.prepare(pixels.clone().requires_grad_())
    with torch.no_grad():
        assert torch.equal(prepared, scorer.prepare(pixels))
        assert torch.equal(prepared, scorer.prepare(pixels.clone().requires_grad_()))
    assert torch.equal(prepared, resize_crop(pixels, 224, corner=math.floor).float() / 255.0)
    assert smooth.requires_grad
    assert scorer.info.reads_prompt
    assert not torch.equal(prepared, smooth)


def test_a_wide_picture_is_sampled_by_its_area() -> None:
    side = technical_measures.VIEWING_SIDE
    assert technical_measures.sampled(torch.zeros(1, 1, side, 4 * side)).shape[-2:] == (side // 2, 2 * side)
    assert technical_measures.sampled(torch.zeros(1, 1, 4 * side, side)).shape[-2:] == (2 * side, side // 2)


@pytest.mark.parametrize("lacking", ["visual_projection.weight", "text_projection.weight"])
def test_a_clip_without_a_projection_is_named(lacking: str, tmp_path: Path) -> None:
    path = scorer_checkpoints.write_clip(tmp_path)
    save_file({name: tensor for name, tensor in load_file(path).items() if name != lacking}, path)
    with pytest.raises(UnknownCheckpoint, match=r"model\.safetensors lacks CLIP's projection"):
        load_scorer(path, device="cpu")


def test_a_vocabulary_of_one_token_more_than_the_text_tower_knows_is_refused(tmp_path: Path) -> None:
    known = len(scorer_checkpoints.clip_vocabulary()[0]) - 1
    path = scorer_checkpoints.write_clip(tmp_path, vocab_size=known)
    with pytest.raises(UnknownCheckpoint, match=rf"ends at token {known}, .* knows {known}"):
        load_scorer(path, device="cpu")


def test_an_unloaded_scorer_prepares_nothing() -> None:
    scorer = load_scorer("technical", device="cpu", shared=False)
    scorer.unload()
    with pytest.raises(ImageRewardError, match=r"call load_scorer\('technical'\) again"):
        scorer.prepare(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("info", scorer_infos().values(), ids=lambda info: info.name)
def test_the_readme_states_the_typical_scores_of_each(info: ScorerInfo) -> None:
    readme = Path(__file__).parents[3] / "README.md"
    (row,) = [
        line
        for line in readme.read_text(encoding="utf-8").splitlines()
        if line.startswith("|") and f"`{info.name}`" in line.split("|")[1]
    ]
    _, _, titles, _, typical, *_ = row.split("|")
    assert info.title in titles
    mean, *deviations = (float(number) for number in re.findall(r"[\d.]+", typical))
    assert info.mean == mean
    assert info.std in deviations
    assert info.estimated == ("about" in typical)


def test_percentiles_are_those_of_the_normal_distribution() -> None:
    info = dataclasses.replace(pickscore.INFO, mean=20.0, std=2.0)
    found = [info.percentile(score) for score in (16.08007, 20.0, 22.0)]
    assert found == pytest.approx([2.5, 50.0, 84.1345], abs=1e-3)


def test_moving_a_scorer_gives_the_scorer() -> None:
    scorer = load_scorer("technical", device="cpu", shared=False)
    assert scorer.to("cpu") is scorer


def test_unload_gives_the_memory_back_once_nothing_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = load_scorer("technical", device="cpu", shared=False)
    held: list[int] = []
    monkeypatch.setattr(base, "release_memory", lambda: held.append(scorer.memory()))
    scorer.unload()
    assert held == [0]


def test_the_log_names_what_is_not_read_of_a_prompt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scorer = load_scorer(scorer_checkpoints.write_clip(tmp_path), device="cpu")
    pixels = torch.zeros(1, 3, 32, 32)
    scorer.score(pixels, ["cat " * 75])
    assert not caplog.records
    for _ in range(2):
        scorer.score(pixels, ["cat " * 75 + "the red castle"])
    (record,) = caplog.records
    assert record.getMessage() == "CLIP reads 77 tokens; not read of this prompt: 'the red castle'"


def test_a_prompt_that_comes_again_in_a_batch_scores_as_alone(tmp_path: Path) -> None:
    scorer = load_scorer(scorer_checkpoints.write_clip(tmp_path), device="cpu")
    pixels = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    prompts = ["a cat", "a red castle", "a cat"]
    alone = [scorer.score(one[None], [prompt]) for one, prompt in zip(pixels, prompts, strict=True)]
    torch.testing.assert_close(scorer.score(pixels, prompts), torch.cat(alone), atol=1e-5, rtol=0)


def test_int8_gives_activations_seven_bits() -> None:
    """x86 kernels without VNNI add two products in 16 bits, which activations of eight bits overflow."""
    layer = nn.Linear(128, 128, bias=False)
    layer.weight.data = torch.eye(128)
    network = nn.Sequential(layer).requires_grad_(False)
    quantise_linears(network)
    levels = torch.arange(128.0)[None]  # exact in seven bits, between two levels in eight
    torch.testing.assert_close(network(levels), levels, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("length", "faults"), [(1000, 0), (950, 0), (1050, 0), (850, 1)])
def test_a_vocabulary_far_shorter_than_the_published_one_is_a_fault(
    length: int, faults: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    weight = WeightFile("owner/name", "some-vocabulary.txt", 1000, "", "MIT")
    (tmp_path / weight.name).write_bytes(b"x" * length)
    network = WeightFile("owner/name", "not-there.safetensors", 1, "", "MIT")
    missing, *found = faults_of(dataclasses.replace(pickscore.INFO, weights=(network, weight)))
    assert missing.weight == network
    assert len(found) == faults
    assert all("expected about 1,000 bytes, got 850" in fault.reason and fault.damaged for fault in found)


def test_a_checkpoint_that_cannot_be_read_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    weight = WeightFile("owner/name", "broken.safetensors", 1000, "", "MIT")
    (tmp_path / weight.name).write_bytes(b"no checkpoint")
    (fault,) = faults_of(dataclasses.replace(pickscore.INFO, weights=(weight,)))
    assert fault.damaged
    assert "None" not in fault.reason
    assert fault.reason.startswith("is not usable (")


def test_texts_beside_a_checkpoint_are_taken_and_other_files_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    main = WeightFile("owner/name", "network.safetensors", 1000, "", "MIT")
    text = WeightFile("owner/name", "folder/vocab.json", 1000, "", "MIT", save_as="other-vocab.json")
    network = WeightFile("owner/name", "clip.safetensors", 1000, "", "MIT", save_as="other-clip.safetensors")
    for name in ("network.safetensors", "vocab.json", "clip.safetensors"):
        (tmp_path / name).write_bytes(b"{}")
    found = faults_of(dataclasses.replace(pickscore.INFO, weights=(main, text, network)))
    assert [fault.weight for fault in found] == [main, network]
