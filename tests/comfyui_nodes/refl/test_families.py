"""Each row of the table of families, met as a MODEL: which one it is, its layers' names, and the blocks that are covered."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy
import comfy.utils
import pytest
import torch
from sd_imagereward.comfyui_nodes.refl import blocks
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl.families import FAMILIES, Base, ComfyFamily, Family, LoraLayers
from torch import nn

ROWS = [row for row in FAMILIES.values() if row.comfyui is not None]


class BaseModel:
    """As the host's, of a network that was given, with the settings of a row."""

    def __init__(self, row: Any, network: nn.Module | None = None, **config: Any) -> None:
        expected = row.comfyui.unet or {}
        settings = {key: value if isinstance(value, str) else 8 * value for key, value in expected.items()}
        self.model_config = SimpleNamespace(unet_config={"in_channels": 4, **settings, **config})
        self.latent_format = SimpleNamespace(latent_channels=4)
        self.diffusion_model = network or nn.Module()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A `comfy.model_base` with the classes that the rows name."""
    module: Any = ModuleType("comfy.model_base")
    module.BaseModel = BaseModel
    for row in ROWS:
        name = row.comfyui.model
        setattr(module, name, getattr(module, name, None) or type(name, (BaseModel,), {}))
    monkeypatch.setitem(sys.modules, "comfy.model_base", module)
    monkeypatch.setattr(comfy, "model_base", module, raising=False)
    return module


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_model_is_of_its_row_and_of_no_other(host: Any, row: Family) -> None:
    from sd_imagereward.comfyui_nodes.refl.families import family_of

    assert row.comfyui is not None
    kind = getattr(host, row.comfyui.model)
    assert family_of(kind(row)) == (row, row.comfyui)
    derived = type("Derived", (kind,), {})(row)
    if row.comfyui.descendants:
        assert family_of(derived) == (row, row.comfyui)
    else:
        with pytest.raises(ImageRewardError, match=r"SD1\.x, SD2\.x, SDXL, SD3 or Flux\.1, got Derived"):
            family_of(derived)
    with pytest.raises(ImageRewardError, match="takes 9 channels, its latents have 4"):
        family_of(kind(row, in_channels=9))


def test_a_comfyui_older_than_a_family_knows_the_others(host: Any) -> None:
    from sd_imagereward.comfyui_nodes.refl.families import family_of

    del host.Flux
    assert family_of(host.SD3(FAMILIES["sd3"]))[0] is FAMILIES["sd3"]


def test_layers_have_the_names_of_lora_files(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sd_imagereward.comfyui_nodes.refl.families import layers_of

    network = nn.ModuleDict({"first": nn.Linear(2, 2), "norm": nn.LayerNorm(2), "last": nn.Conv2d(2, 2, 1)})
    names = {"theirs.0.weight": "first.weight", "theirs.0.bias": "first.bias", "theirs.1.weight": "norm.weight"}
    monkeypatch.setattr(comfy.utils, "unet_to_diffusers", lambda config: names, raising=False)
    found = {row.name: layers_of(BaseModel(row, network), row) for row in ROWS}
    for row in ROWS:
        own = {"first": network["first"], "last": network["last"]}
        assert found[row.name] == (own if row.layers.original_names else {"theirs.0": network["first"]})


class Block(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x += 1  # in place
        return x * x


def test_a_new_row_is_known_and_its_blocks_are_covered(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sd_imagereward.comfyui_nodes.refl.families import family_of, layers_of

    names = ((__name__, "Block"), ("comfy.nowhere", "Block"))
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Block=Block))
    traits = ComfyFamily(model="New", blocks=names, in_place=True)
    row = Family("new", "New", 64, 1.0, LoraLayers(("layers.",), (".qkv",)), Base("new", "new/lora"), comfyui=traits)
    monkeypatch.setitem(FAMILIES, "new", row)
    host.New = type("New", (BaseModel,), {})
    network = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"qkv": nn.Linear(2, 2)}), Block()])})
    model = host.New(row, network)
    assert family_of(model) == (row, traits)
    assert list(layers_of(model, row)) == ["layers.0.qkv"]
    block = network["layers"][1]
    blocks.cover(network, traits.blocks, blocks.differentiable)
    blocks.cover(network, traits.blocks, blocks.recomputing)
    weight = torch.ones(2, requires_grad=True)
    block(2 * weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [12.0, 12.0]  # 2 * 2 * (2 * 1 + 1)
    blocks.uncover(network, blocks.recomputing)
    blocks.uncover(network, blocks.differentiable)
    assert "forward" not in block.__dict__
