"""The small networks, in the layouts of the large ones: a Stable Diffusion 1 pipeline, BLIP and CLIP."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.networks.bert import BertSizes
from ...core.networks.vit import ViTSizes
from ...core.scorers.blip import BlipNetwork
from .words import CLIP_TOKENS, write_byte_pairs, write_wordpiece
from .world import SIDE

WIDTH = 64  # of the scorers' towers, and of the prompt's embedding
SCALING = 0.18215  # of Stable Diffusion's latents
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def vae() -> Any:
    from diffusers import AutoencoderKL

    widths = (8, 16, 32, 32)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIDE,
        scaling_factor=SCALING,
    )


def unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE // 8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=4,  # for SD1 this is the number of heads
        cross_attention_dim=WIDTH,
    )


def _text(vocabulary: int, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 1,
        "projection_dim": WIDTH,
        "max_position_embeddings": CLIP_TOKENS,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }


def clip_tokenizer() -> tuple[Any, int]:
    """transformers' tokenizer for the world's words, and the size of its vocabulary."""
    from transformers import CLIPTokenizer

    with tempfile.TemporaryDirectory() as folder:
        size = write_byte_pairs(Path(folder))
        files = str(Path(folder) / "vocab.json"), str(Path(folder) / "merges.txt")
        return CLIPTokenizer(*files, model_max_length=CLIP_TOKENS), size


def pipeline(vae: Any, unet: Any, text_encoder: Any, tokenizer: Any) -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(**BETAS, steps_offset=1, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def clip(vocabulary: int) -> Any:
    from transformers import CLIPConfig, CLIPModel

    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 1,
        "projection_dim": WIDTH,
        "image_size": SIDE,
        "patch_size": 8,
    }
    config = CLIPConfig(text_config=_text(vocabulary, layers=2), vision_config=vision, projection_dim=WIDTH)
    return CLIPModel(config)


class Blip(nn.Module):
    """BLIP as it is pre-trained: the two towers of its scorer, and a head that tells matching captions from others."""

    def __init__(self, vocabulary: int, depth: int = 3) -> None:
        super().__init__()
        heads, hidden = 1, 4 * WIDTH
        vision = ViTSizes(WIDTH, depth, heads, hidden, patch=8, image_size=SIDE)
        text = BertSizes(vocabulary, 40, WIDTH, 2, heads, hidden, image_width=WIDTH)
        self.towers = BlipNetwork(vision, text, embedding=WIDTH)
        self.matching = nn.Linear(WIDTH, 2)
        self.temperature = nn.Parameter(torch.tensor(0.07))
        for name, parameter in self.named_parameters():
            if name.endswith(("pos_embed", "cls_token", "embeddings.weight")) or (
                parameter.ndim == 2 and "patch_embed" not in name
            ):
                nn.init.normal_(parameter, std=0.02 if parameter.ndim > 2 else parameter.shape[-1] ** -0.5 / 2)

    def checkpoint(self) -> dict[str, Tensor]:
        """A state dict in the layout of the published `model_large.pth`."""
        return {name: tensor.detach().contiguous() for name, tensor in self.towers.state_dict().items()}


def write_blip(blip: Blip, folder: Path) -> Path:
    from safetensors.torch import save_file

    write_wordpiece(folder)
    save_file(blip.checkpoint(), folder / "blip.safetensors")
    return folder / "blip.safetensors"
