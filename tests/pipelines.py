"""Tiny random diffusers pipelines in the layouts of Stable Diffusion 1.5, 2 (v-prediction) and XL: same blocks, narrow.
Pictures are 64 x 64, latents 8 x 8. Nothing is downloaded: the tokenizer's vocabulary is made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from checkpoints import _tensor

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.!?-'"


def tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer with single letters as its only tokens."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tokens = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def _text_encoder(width: int, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=2 * len(_LETTERS) + 2,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=2 * len(_LETTERS),
        eos_token_id=2 * len(_LETTERS) + 1,
        pad_token_id=2 * len(_LETTERS) + 1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        scaling_factor=0.18215,
    ).eval()


def _unet(kind: str) -> Any:
    from diffusers import UNet2DConditionModel

    attention, plain = "CrossAttn", ""
    if kind == "sdxl":
        blocks, widths = (plain, attention, attention), (8, 16, 16)
        own = {
            "transformer_layers_per_block": (1, 2, 3),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 24 + 6 * 8,
            "cross_attention_dim": 16 + 24,
            "use_linear_projection": True,
        }
    else:
        blocks, widths = (attention, attention, attention, plain), (8, 16, 16, 16)
        own = {"cross_attention_dim": 16, "use_linear_projection": kind == "sd2"}
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=widths,
        down_block_types=tuple(f"{block}DownBlock2D" for block in blocks),
        up_block_types=tuple(f"{block}UpBlock2D" for block in reversed(blocks)),
        norm_num_groups=4,
        attention_head_dim=4,
        **own,
    ).eval()


def pipeline(kind: str, folder: Path, seed: int = 0) -> Any:
    """kind: "sd1", "sd2" (v-prediction) or "sdxl"; `folder` takes the tokenizer's files."""
    from diffusers import (
        DDIMScheduler,
        EulerDiscreteScheduler,
        PNDMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
    )

    torch.manual_seed(seed)
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    parts = {
        "vae": _vae(),
        "unet": _unet(kind),
        "tokenizer": tokenizer(folder / "tokenizer"),
        "text_encoder": _text_encoder(16, projected=False),
    }
    if kind == "sdxl":
        return StableDiffusionXLPipeline(
            **parts,
            text_encoder_2=_text_encoder(24, projected=True),
            tokenizer_2=parts["tokenizer"],
            scheduler=EulerDiscreteScheduler(**betas, timestep_spacing="leading"),
        )
    if kind == "sd2":
        scheduler = DDIMScheduler(**betas, prediction_type="v_prediction", clip_sample=False)
    else:
        scheduler = PNDMScheduler(**betas, skip_prk_steps=True)
    return StableDiffusionPipeline(
        **parts, scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def fill(made: Any) -> Any:
    """The pipeline with numbers that no version of any library changes (see checkpoints.py)."""
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        network = getattr(made, part, None)
        for name, tensor in network.state_dict().items() if network is not None else ():
            name = f"{part}.{name.removeprefix('text_model.')}"  # transformers 5 dropped that word
            scale = name.endswith("weight") and tensor.ndim == 1  # a normalisation's
            spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1
            if tensor.is_floating_point():
                tensor.copy_(_tensor(0, name, tuple(tensor.shape), float(scale), spread))
    return made
