"""The checkpoint file of a whole pipeline: what goes in comes out of diffusers' own loader, and the hosts know its keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from reference.checkpoint_keys import fingerprints
from safetensors.torch import load_file
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl.families import FAMILIES
from sd_imagereward.core.refl.single_file import original_tensors, write_single_file

diffusers = pytest.importorskip("diffusers", reason='diffusers is not installed (pip install -e ".[refl]")')
pytest.importorskip("transformers", reason='transformers is not installed (pip install -e ".[refl]")')

KINDS = ("sd1", "sd2", "sdxl")
KEYS = json.loads((Path(__file__).parent / "checkpoint_keys.json").read_text())


def row(kind: str) -> Any:
    return FAMILIES[kind].diffusers


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_reads_back_what_was_written(kind: str, make_pipeline: Callable[..., Any], tmp_path: Path) -> None:
    pipeline = make_pipeline(kind)
    path = write_single_file(pipeline, row(kind), tmp_path / "model.safetensors", dtype=None)
    pipeline.save_pretrained(tmp_path / "folder")
    again = type(pipeline).from_single_file(str(path), config=str(tmp_path / "folder"), local_files_only=True)
    parts = ("unet", "vae", "text_encoder", *(("text_encoder_2",) if kind == "sdxl" else ()))
    for part in parts:
        written, read = getattr(pipeline, part).state_dict(), getattr(again, part).state_dict()
        assert list(read) == list(written)
        assert all(torch.equal(read[key], written[key]) for key in written), part


def real_size(kind: str) -> Any:
    """The published model's networks, without their numbers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def tower(kind: Any, width: int, layers: int, heads: int) -> Any:
        return kind(
            CLIPTextConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                projection_dim=width,
            )
        )

    sdxl = {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    unets = {
        "sd1": {"cross_attention_dim": 768},
        "sd2": {"cross_attention_dim": 1024, "use_linear_projection": True},
        "sdxl": sdxl,
    }
    with torch.device("meta"):
        first = tower(CLIPTextModel, 1024, 23, 16) if kind == "sd2" else tower(CLIPTextModel, 768, 12, 12)
        return SimpleNamespace(
            unet=diffusers.UNet2DConditionModel(**unets[kind]),
            vae=diffusers.AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
                latent_channels=4,
            ),
            text_encoder=first,
            text_encoder_2=tower(CLIPTextModelWithProjection, 1280, 32, 20) if kind == "sdxl" else None,
            scheduler=diffusers.DDIMScheduler(),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_keys_and_shapes_are_those_of_the_real_checkpoints(kind: str) -> None:
    """checkpoint_keys.json: what ComfyUI 0.12.1 writes as a checkpoint (made by tests/reference/checkpoint_keys.py)."""
    found = original_tensors(real_size(kind), row(kind))
    assert fingerprints(found) == KEYS[kind]


def test_numbers_are_halved_unless_they_do_not_fit(make_pipeline: Callable[..., Any], tmp_path: Path) -> None:
    pipeline, path = make_pipeline("sd1"), tmp_path / "model.safetensors"
    write_single_file(pipeline, row("sd1"), path)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # a host of another user reads it, too
    (tmp_path / "plain").unlink()
    before = path.read_bytes()
    pipeline.unet.conv_out.bias.data[0] = 1e6
    with pytest.raises(ImageRewardError, match=r"out\.2\.bias.*too large for torch\.float16"):
        write_single_file(pipeline, row("sd1"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_sdxl_that_predicts_velocity_says_so(make_pipeline: Callable[..., Any]) -> None:
    pipeline = make_pipeline("sdxl")
    assert "v_pred" not in original_tensors(pipeline, row("sdxl"))
    pipeline.scheduler.register_to_config(prediction_type="v_prediction")
    assert "v_pred" in original_tensors(pipeline, row("sdxl"))


def test_a_network_of_another_kind_is_refused(make_pipeline: Callable[..., Any]) -> None:
    pipeline = make_pipeline("sd1")
    pipeline.unet.register_module("adapter", torch.nn.Linear(2, 2))
    with pytest.raises(ImageRewardError, match=r"adapter\.weight has no place"):
        original_tensors(pipeline, row("sd1"))
