"""A LoRA file of ReFL in a real AUTOMATIC1111: every layer of it finds its place, and it changes the picture."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sd_imagereward.core.refl.families import FAMILIES
from sd_imagereward.core.refl.lora import Lora
from sd_imagereward.core.refl.lora_files import LoraRecord, write_lora
from torch import nn

from .server import WebUI

pytestmark = pytest.mark.host

UNET = re.compile(
    r"model\.diffusion_model\.(input_blocks|middle_block|output_blocks)\.(\d+)\.(?:1\.)?(transformer_blocks\..*)\.weight"
)


def diffusers_name(block: str, number: str, layer: str) -> str:
    """Of a layer of SD1's U-Net, which has two ResNet blocks a level."""
    if block == "middle_block":
        return f"mid_block.attentions.0.{layer}"
    way, at = ("down", int(number) - 1) if block == "input_blocks" else ("up", int(number))
    return f"{way}_blocks.{at // 3}.attentions.{at % 3}.{layer}"


def complaints(webui: WebUI) -> list[str]:
    words = ("didn't match keys", "couldn't find supported operation", "Couldn't find network")
    return [line for line in webui.log.read_text(errors="replace").splitlines() if any(word in line for word in words)]


def layers_of(checkpoint: Path) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    with safe_open(str(checkpoint), "pt") as file:
        for key in file.keys():  # noqa: SIM118 (it is no dictionary)
            match = UNET.fullmatch(key)
            shape = file.get_slice(key).get_shape()
            if match and len(shape) == 2:
                found[diffusers_name(*match.groups())] = nn.Linear(shape[1], shape[0], device="meta")
    return found


@pytest.fixture(scope="module")
def webui(furnish: Callable[..., WebUI]) -> Iterator[WebUI]:
    if os.environ.get("SDWEBUI_CHECKPOINT"):
        pytest.skip("needs the tests' own checkpoint, whose blocks are named as those of SD1 are")
    server = furnish("--loglevel", "DEBUG")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.mark.parametrize("which", ["attention", "linear"])
def test_every_layer_is_found_and_the_picture_changes(webui: WebUI, which: str) -> None:
    layers = layers_of(webui.checkpoint)
    lora = Lora(
        {name: layer.to_empty(device="cpu") for name, layer in Lora.on(layers, rank=2, which=which).items()}, 2, 2
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in lora.parameters():
        parameter.data.normal_(std=0.5, generator=generator)
    record = LoraRecord(which, FAMILIES["sd1"], False, (512, 512), "random", "ImageReward", 1, 1e-4, 0, ["a cat"])
    write_lora(lora, webui.models / "Lora" / f"{which}.safetensors", record)
    webui.call("/sdapi/v1/refresh-loras", {})
    assert which in [one["name"] for one in webui.call("/sdapi/v1/loras")]

    def picture(prompt: str) -> np.ndarray:
        result = webui.generate(script=None, prompt=prompt, batch_size=1, n_iter=1)
        return np.asarray(result.images[0]).astype(int)

    plain = picture("a cat")
    assert np.array_equal(picture(f"a cat <lora:{which}:0>"), plain)
    assert np.abs(picture(f"a cat <lora:{which}:1>") - plain).mean() > 1
    assert complaints(webui) == []


def test_a_layer_without_a_place_would_be_told(webui: WebUI) -> None:
    """So that the silence above means something."""
    stray = {
        "lora_unet_nowhere.lora_up.weight": torch.ones(2, 2),
        "lora_unet_nowhere.lora_down.weight": torch.ones(2, 2),
    }
    save_file(stray, webui.models / "Lora" / "stray.safetensors")
    webui.call("/sdapi/v1/refresh-loras", {})
    webui.generate(script=None, prompt="a cat <lora:stray:1>", batch_size=1, n_iter=1)
    assert any("stray" in line for line in complaints(webui))
