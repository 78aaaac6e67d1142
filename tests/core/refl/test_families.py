"""The table of families, row by row: what a row says leads to a LoRA, to its file, and to no other row."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl import LoraRecord, ReflConfig, ReflTrainer, read_lora, write_lora
from sd_imagereward.core.refl.families import (
    COMFYUI_TITLES,
    DIFFUSERS_TITLES,
    FAMILIES,
    FLOW_TITLES,
    Base,
    Family,
    LoraLayers,
    fits,
    guidances_in_words,
    resolutions_in_words,
)
from sd_imagereward.core.refl.lora import Lora
from sd_imagereward.core.refl.lora_files import lora_from_tensors
from sd_imagereward.core.refl.single_file import family_of_file
from torch import nn
from toy_generator import ColourScorer, ToyGenerator

ROWS = list(FAMILIES.values())
named = pytest.mark.parametrize("family", ROWS, ids=list(FAMILIES))


def settings(expected: Mapping[str, bool | str]) -> dict[str, Any]:
    """A network's settings that are as expected."""
    return {key: value if isinstance(value, str) else 7 if value else None for key, value in expected.items()}


def network(layers: LoraLayers) -> dict[str, nn.Module]:
    """In each kind of block each layer of attention, another linear one and a norm; outside of them a linear layer."""
    inside = [f"{block}0.part" for block in layers.blocks]
    return {
        **{f"{block}{end}": nn.Linear(4, 4) for block in inside for end in layers.attention},
        **{f"{block}.other": nn.Linear(4, 4) for block in inside},
        **{f"{block}.norm": nn.LayerNorm(4) for block in inside},
        "elsewhere.to_q": nn.Linear(4, 4),
    }


@named
def test_a_lora_of_each_family_touches_its_blocks_alone_and_comes_back_from_its_file(
    family: Family, tmp_path: Path
) -> None:
    layers = network(family.layers)
    attention, linear = (Lora.on(layers, rank=2, which=which, of=family.layers) for which in ("attention", "linear"))
    others = {f"{block}0.part.other" for block in family.layers.blocks}
    assert len(attention.names) == len(family.layers.blocks) * len(family.layers.attention)
    assert set(linear.names) == {*attention.names, *others}
    record = LoraRecord("a", family, False, (512, 512), "model", "ImageReward", 1, 1e-4, 0, ["a cat"])
    write_lora(linear, tmp_path / "a.safetensors", record)
    file = read_lora(tmp_path / "a.safetensors")
    assert lora_from_tensors(file.tensors, layers).names == [name for name in layers if name in linear.names]
    assert file.metadata["ss_base_model_version"] == family.base.kohya
    assert file.metadata["modelspec.architecture"] == family.base.modelspec
    assert file.metadata["ss_v2"] == str(family.base.v2)
    assert ("modelspec.prediction_type" in file.metadata) == (not family.flow)


@named
def test_a_network_without_blocks_of_the_family_is_refused(family: Family) -> None:
    with pytest.raises(ImageRewardError, match=r"expected names with .*; got elsewhere\.to_q"):
        Lora.on({"elsewhere.to_q": nn.Linear(4, 4)}, rank=2, of=family.layers)


@named
def test_noise_levels_are_those_of_the_familys_mixture(family: Family) -> None:
    level = 0.25
    alpha, sigma = (1 - level, level) if family.flow else (1.0, level)
    assert family.signal_to_noise(level) == pytest.approx(alpha**2 / sigma**2)


@pytest.mark.parametrize("field", ["name", "title", "base"])
def test_no_two_rows_are_taken_for_one_another(field: str) -> None:
    assert len({getattr(row, field) for row in ROWS}) == len(ROWS)
    assert [row.name for row in ROWS] == list(FAMILIES)


def test_a_model_that_predicts_velocity_is_another_base_where_the_row_says_so() -> None:
    bases = [row.base_of(v) for row in ROWS for v in (False, True)]
    assert len(set(bases)) == len(ROWS) + sum(row.velocity_base is not None for row in ROWS)
    assert FAMILIES["sd2"].base_of(True).kohya == "sd_v2_v"  # as kohya names it


@pytest.mark.parametrize("host", ["diffusers", "comfyui"])
def test_a_networks_settings_fit_one_row(host: str) -> None:
    rows = [(row.name, getattr(row, host)) for row in ROWS if getattr(row, host) is not None]
    for (one, mine), (other, theirs) in combinations(rows, 2):
        if host == "comfyui" and mine.model != theirs.model:
            continue
        assert fits(settings(mine.unet), mine.unet)
        assert not fits(settings(mine.unet), theirs.unet), (one, other)
        assert not fits(settings(theirs.unet), mine.unet), (one, other)


def test_a_single_file_is_of_the_family_whose_text_encoders_it_holds() -> None:
    for row in ROWS:
        if row.diffusers is not None:
            keys = [f"{encoder.prefix}weight" for encoder in row.diffusers.text_encoders]
            assert family_of_file(keys) is row.diffusers
    assert family_of_file(["model.diffusion_model.out.2.bias"]) is None


def test_what_people_read_of_the_table() -> None:
    assert DIFFUSERS_TITLES == "SD1.x, SD2.x or SDXL"
    assert COMFYUI_TITLES == "SD1.x, SD2.x, SDXL, SD3 or Flux.1"
    assert FLOW_TITLES == "SD3 and Flux.1"
    assert guidances_in_words() == "7.5 for SD1.x and SD2.x, 5 for SDXL, 7 for SD3, 1 for Flux.1"
    assert resolutions_in_words() == "512 for SD1.x, 768 for SD2.x, 1024 for SDXL, SD3 and Flux.1"


def test_the_usual_guidance_is_that_of_the_pipelines() -> None:
    diffusers = pytest.importorskip("diffusers", reason='diffusers is not installed (pip install -e ".[refl]")')
    pipelines = {row.name: row.diffusers.pipeline for row in ROWS if row.diffusers is not None}
    for name, pipeline in {**pipelines, "sd3": "StableDiffusion3Pipeline"}.items():
        parameters = inspect.signature(getattr(diffusers, pipeline).__call__).parameters
        assert FAMILIES[name].guidance == parameters["guidance_scale"].default


NEW = Family(
    name="new",
    title="New",
    resolution=64,
    guidance=3.0,
    layers=LoraLayers(blocks=("layers.",), attention=(".qkv", ".out")),
    base=Base("new_v1", "new/lora"),
    flow=True,
)


class NewGenerator(ToyGenerator):
    """The toy's network under the names of a family that nobody knew before."""

    family = NEW

    def layers(self) -> Mapping[str, nn.Module]:
        found = list(super().layers().values())
        return {"layers.0.qkv": found[0], "layers.0.out": found[3], "layers.0.mlp": found[1], "head": found[4]}


def test_a_new_family_is_one_row(tmp_path: Path) -> None:
    """From the row to a trained LoRA and its file, and on from there, without a change anywhere else."""
    config = ReflConfig(
        prompts=("a cat",), steps=2, accumulation=1, lora_rank=2, learning_rate=1e-2, denoising_steps=3,
        stop_window=(1, 2), guard=False, dtype="float32", tracker="none",
    )  # fmt: skip
    result = ReflTrainer(NewGenerator(), ColourScorer(0), config).train()
    path = result.write_lora(tmp_path / "new.safetensors")
    file = read_lora(path)
    assert {key.split(".")[0] for key in file.tensors} == {"lora_unet_layers_0_qkv", "lora_unet_layers_0_out"}
    assert file.metadata["ss_base_model_version"] == "new_v1"
    assert "modelspec.prediction_type" not in file.metadata
    goes_on = ReflTrainer(NewGenerator(), ColourScorer(0), replace(config, lora_from=str(path), steps=1))
    assert goes_on.tuning.lora.names == result.lora.names
    assert all(torch.isfinite(parameter).all() for parameter in goes_on.tuning.lora.parameters())
