"""LoRA layers and their files: exact off-switch, one delta by both roads, and keys that the hosts look for."""

from __future__ import annotations

import hashlib
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl import Lora, LoraRecord, ReflConfig, read_lora, write_lora
from sd_imagereward.core.refl.families import FAMILIES
from sd_imagereward.core.refl.lora import LoraLayer
from sd_imagereward.core.refl.lora_files import key_of, lora_from_tensors, tensors_of
from torch import nn
from toy_generator import BLOCK, ToyGenerator

RECORD = LoraRecord(
    name="my_refl",
    family=FAMILIES["sdxl"],
    v_prediction=False,
    resolution=(1024, 768),
    base_model="some/model",
    reward="ImageReward",
    steps=100,
    learning_rate=1e-4,
    seed=0,
    prompts=("a cat",),
    recommended_strength=0.7,
)


def filled(lora: Lora) -> Lora:
    for parameter in lora.parameters():
        nn.init.normal_(parameter)
    return lora


def weight_change(layer: LoraLayer) -> torch.Tensor:
    """What merging the branch adds to the base layer's weight."""
    product = layer.up.flatten(1) @ layer.down.flatten(1)
    return product.view(layer.up.shape[0], *layer.down.shape[1:]) * layer.scale


@pytest.mark.parametrize(
    ("base", "shape"),
    [
        (nn.Linear(6, 4), (2, 6)),
        (nn.Conv2d(6, 4, 3, padding=1, stride=2), (2, 6, 8, 8)),
        (nn.Conv2d(6, 4, 1), (2, 6, 8, 8)),
    ],
)
def test_branch_and_weight_delta_are_the_same_change(base: Any, shape: tuple[int, ...]) -> None:
    layer = LoraLayer(base, rank=2, alpha=3.0)
    nn.init.normal_(layer.up)
    x = torch.randn(shape)
    by_branch = base(x) + layer(x)
    base.weight.data += weight_change(layer)
    torch.testing.assert_close(base(x), by_branch, rtol=1e-4, atol=1e-5)


def test_a_fresh_lora_and_strength_zero_change_nothing() -> None:
    generator = ToyGenerator()
    x, prompt = torch.randn(1, 4, 8, 8), torch.zeros(1, 4, 1, 1)
    before = generator.network(x, prompt)
    lora = Lora.on(generator.layers(), rank=2)
    generator.attach(lora)
    assert torch.equal(generator.network(x, prompt), before)
    filled(lora)
    assert not torch.equal(generator.network(x, prompt), before)
    with lora.at(0):
        assert torch.equal(generator.network(x, prompt), before)


def test_without_a_seed_a_lora_starts_as_a_run_does() -> None:
    layers = ToyGenerator().layers()
    unseeded, seeded = Lora.on(layers, rank=2), Lora.on(layers, rank=2, seed=ReflConfig().seed)
    for (name, one), (_, other) in zip(unseeded.items(), seeded.items(), strict=True):
        assert torch.equal(one.down, other.down), name


def test_the_starts_are_those_of_peft() -> None:
    kaiming = LoraLayer(nn.Linear(400, 8), 16, 16).down
    bound = 400**-0.5
    assert (kaiming.min().item(), kaiming.max().item()) == pytest.approx((-bound, bound), rel=0.01)
    assert kaiming.mean().item() == pytest.approx(0, abs=0.05 * bound)
    gaussian = LoraLayer(nn.Linear(400, 8), 16, 16, init="gaussian").down
    assert (gaussian.mean().item(), gaussian.std().item()) == pytest.approx((0, 1 / 16), abs=0.003)


def test_choice_of_layers() -> None:
    layers = ToyGenerator().layers()
    assert Lora.on(layers, rank=1).names == [f"{BLOCK}.attn1.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")]
    with pytest.raises(ImageRewardError, match="attention, linear"):
        Lora.on(layers, rank=1, which="everything")
    with pytest.raises(ImageRewardError, match="conv_out"):
        Lora.on({"conv_out": layers["conv_out"]}, rank=1)


def test_file_round_trip(tmp_path: Path) -> None:
    lora = filled(Lora.on(ToyGenerator().layers(), rank=2, alpha=3.0))
    write_lora(lora, tmp_path / "my_refl.safetensors", RECORD)
    again = lora_from_tensors(read_lora(tmp_path / "my_refl.safetensors").tensors, ToyGenerator().layers())
    assert again.names == lora.names
    for (_, a), (_, b) in zip(lora.items(), again.items(), strict=True):
        assert torch.equal(weight_change(a), weight_change(b))


def test_the_folder_of_a_file_is_made(tmp_path: Path) -> None:
    write_lora(Lora.on(ToyGenerator().layers(), rank=2), tmp_path / "new" / "my_refl.safetensors", RECORD)
    assert (tmp_path / "new" / "my_refl.safetensors").is_file()


def test_metadata_that_the_hosts_read(tmp_path: Path) -> None:
    path = tmp_path / "my_refl.safetensors"
    write_lora(filled(Lora.on(ToyGenerator().layers(), rank=2)), path, RECORD)
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    assert metadata["ss_base_model_version"].startswith("sdxl_")  # A1111 hides it from SDXL otherwise
    assert metadata["ss_output_name"] == "my_refl"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("2", "2")
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert metadata["modelspec.resolution"] == "1024x768"
    assert metadata["refl_recommended_strength"] == "0.70"
    assert metadata["refl_reward"] == "ImageReward"
    assert metadata["refl_prompts_sha256"] == hashlib.sha256(b"a cat").hexdigest()
    raw = path.read_bytes()  # as A1111 hashes a file whose metadata names no hash
    header = int.from_bytes(raw[:8], "little")
    assert metadata["sshs_model_hash"] == hashlib.sha256(raw[8 + header :]).hexdigest()


def test_a1111s_old_hash_is_of_64_kib_from_the_first_mib_on(tmp_path: Path) -> None:
    lora = Lora.on({f"{BLOCK}.attn1.to_q": nn.Linear(1024, 1024)}, rank=160)
    metadata = write_lora(filled(lora), tmp_path / "large.safetensors", RECORD)
    plain = save(load_file(tmp_path / "large.safetensors"))  # before the metadata that holds the hash itself
    assert len(plain) > 0x110000
    legacy = hashlib.sha256(plain[2**20 : 2**20 + 2**16]).hexdigest()[:8]
    assert metadata["sshs_legacy_hash"] == legacy


def test_a_lora_with_nan_is_not_written(tmp_path: Path) -> None:
    lora = Lora.on(ToyGenerator().layers(), rank=2)
    next(iter(lora.parameters())).data.fill_(float("nan"))
    with pytest.raises(ImageRewardError, match="NaN"):
        write_lora(lora, tmp_path / "bad.safetensors", RECORD)
    assert not list(tmp_path.iterdir())


def test_a_lora_of_another_model_is_refused(tmp_path: Path) -> None:
    layers = ToyGenerator().layers()
    tensors = tensors_of(Lora.on(layers, rank=2))
    with pytest.raises(ImageRewardError, match="fit no layer"):
        lora_from_tensors(tensors | {"lora_unet_elsewhere.lora_down.weight": torch.zeros(2, 4)}, layers)
    name = f"{BLOCK}.attn1.to_q"
    with pytest.raises(ImageRewardError, match="another model"):
        lora_from_tensors(tensors, {**layers, name: nn.Linear(5, 5)})
    (tmp_path / "text.safetensors").write_text("not a LoRA")
    with pytest.raises(ImageRewardError, match="not a whole safetensors file"):
        read_lora(tmp_path / "text.safetensors")


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_keys_are_those_that_the_hosts_look_for(kind: str) -> None:
    """lora_keys.json: the linear layers' keys that ComfyUI 0.12.1's `model_lora_keys_unet` makes for the real model,
    each of which A1111's `convert_diffusers_name_to_compvis` also leads to a module of the model."""
    diffusers = pytest.importorskip("diffusers")
    tables = json.loads((Path(__file__).parent / "lora_keys.json").read_text())[kind]
    expected = {
        f"{block}_{layer.replace('_N', f'_{n}')}"
        for block, depth in tables["blocks"].items()
        for layer in tables["layers"]
        for n in range(depth)
    }
    down, up = ("CrossAttnDownBlock2D",), ("CrossAttnUpBlock2D",)
    sdxl = {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", *down * 2),
        "up_block_types": (*up * 2, "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
    }
    own = {
        "sd1": {"cross_attention_dim": 768},
        "sd2": {"cross_attention_dim": 1024, "use_linear_projection": True},
        "sdxl": sdxl,
    }
    with torch.device("meta"):
        network = diffusers.UNet2DConditionModel(**own[kind])
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    from sd_imagereward.core.refl.lora import touches

    ours = {key_of(name) for name, module in layers.items() if touches(name, module, "linear")}
    assert ours == expected


def odd_tensors(kind: str) -> dict[str, torch.Tensor]:
    lora = Lora.on(ToyGenerator().layers(), rank=2)
    tensors = tensors_of(filled(lora))
    key = key_of(f"{BLOCK}.attn1.to_q")
    change: dict[str, tuple[str, torch.Tensor]] = {
        "no rank": ("lora_down.weight", torch.zeros(0, 4)),
        "a scalar": ("lora_down.weight", torch.tensor(1.0)),
        "whole numbers": ("lora_down.weight", torch.ones(2, 4, dtype=torch.int64)),
        "another model": ("lora_up.weight", torch.ones(5, 2)),
        "NaN": ("lora_up.weight", torch.full((4, 2), float("nan"))),
        "two alphas": ("alpha", torch.ones(2)),
        "endless alpha": ("alpha", torch.tensor(float("inf"))),
        "complex alpha": ("alpha", torch.tensor(1j)),
    }
    part, tensor = change[kind]
    return tensors | {f"{key}.{part}": tensor}


@pytest.mark.parametrize(
    "kind",
    ["no rank", "a scalar", "whole numbers", "another model", "NaN", "two alphas", "endless alpha", "complex alpha"],
)
def test_a_lora_that_is_damaged_is_named(kind: str) -> None:
    with pytest.raises(ImageRewardError, match="LoRA layer"):
        lora_from_tensors(odd_tensors(kind), ToyGenerator().layers())


def test_random_damage_of_a_lora_file_ends_in_the_projects_own_errors(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    write_lora(filled(Lora.on(ToyGenerator().layers(), rank=2)), path, RECORD)
    whole, dice = path.read_bytes(), random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 5)):
            data[dice.randrange(min(len(data), dice.choice([16, 600, len(data)])))] = dice.randrange(256)
        path.write_bytes(data[: dice.randint(0, len(data))] if dice.random() < 0.2 else data)
        with suppress(ImageRewardError):
            lora_from_tensors(read_lora(path).tensors, ToyGenerator().layers())
