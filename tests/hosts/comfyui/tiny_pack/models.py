"""Random networks of the makes of SD1.5 to Flux, 32 to 64 wide, in ComfyUI's classes. Same seed, same bits.

They are built as the stock loaders build theirs: under inference mode, so that training meets what it meets in life.
"""

from __future__ import annotations

from typing import ClassVar

import comfy.ldm.flux.model
import comfy.ldm.models.autoencoder
import comfy.model_base
import comfy.model_management as model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch
from comfy import latent_formats

CONTEXT = 32


class TinyConfig(comfy.supported_models_base.BASE):
    unet_extra_config: ClassVar = {"num_heads": 2, "num_head_channels": -1}
    latent_format = latent_formats.SD15


class TinySd2(TinyConfig):
    """Velocity prediction and linear projections, as the 768 model of SD2."""

    def model_type(self, state_dict, prefix=""):
        return comfy.model_base.ModelType.V_PREDICTION


class TinySdxl(TinyConfig):
    latent_format = latent_formats.SDXL

    def get_model(self, state_dict, prefix="", device=None):
        return comfy.model_base.SDXL(self, device=device)


class TinySd3(comfy.supported_models_base.BASE):
    unet_extra_config: ClassVar = {}
    sampling_settings: ClassVar = {"shift": 3.0}
    latent_format = latent_formats.SD3

    def get_model(self, state_dict, prefix="", device=None):
        return comfy.model_base.SD3(self, device=device)


class TinyFlux(comfy.supported_models_base.BASE):
    unet_extra_config: ClassVar = {}
    latent_format = latent_formats.Flux

    def get_model(self, state_dict, prefix="", device=None):
        return comfy.model_base.Flux(self, device=device)


UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": CONTEXT,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "legacy": False,
    "dtype": torch.float32,
}

SIZE_ADM = 6 * 256  # ComfyUI embeds each of SDXL's six sizes in 256 numbers, whatever the network

SD3 = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 1,  # a width of 64 and one head
    "num_blocks": 3,
    "input_size": None,
    "adm_in_channels": CONTEXT,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": CONTEXT, "out_features": 64}},
    "num_patches": 8 * 8,
    "pos_embed_max_size": 8,
    "qk_norm": "rms",  # as SD3.5
    "x_block_self_attn_layers": [0],
    "dtype": torch.float32,
}

FLUX = {
    "image_model": "flux",
    "guidance_embed": True,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": CONTEXT,
    "context_in_dim": CONTEXT,
    "hidden_size": 64,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "qkv_bias": True,
    "txt_ids_dims": [],
    "dtype": torch.float32,
}

KINDS = {
    "sd1": (TinyConfig, UNET),
    "sd2": (TinySd2, {**UNET, "use_linear_in_transformer": True}),
    "sd3": (TinySd3, SD3),
    "flux": (TinyFlux, FLUX),
    "sdxl": (
        TinySdxl,
        {
            **UNET,
            "use_linear_in_transformer": True,
            "adm_in_channels": CONTEXT + SIZE_ADM,
            "num_classes": "sequential",
            "transformer_depth": [0, 2],
            "transformer_depth_output": [0, 0, 2, 2],
            "transformer_depth_middle": 2,
        },
    ),
}

FLOWS = ("sd3", "flux")  # 16 channels of latents
UNKNOWN_TO_OLDER = ("txt_ids_dims",)  # to the Flux of ComfyUI 0.3

TEXT = {
    "architectures": ["CLIPTextModel"],
    "hidden_act": "quick_gelu",
    "hidden_size": CONTEXT,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 49408,
    "eos_token_id": 49407,
}

VAE = {
    "double_z": True,
    "resolution": 32,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}


class TinyClipModel(comfy.sd1_clip.SDClipModel):
    sizes: ClassVar = TEXT

    def __init__(self, device="cpu", dtype=None, model_options=None, **_):
        super().__init__(
            device=device, dtype=dtype, textmodel_json_config=dict(self.sizes), model_options=model_options or {}
        )


class TinyClip(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=TinyClipModel)


class TinyTokenizer(comfy.sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            embedding_directory=embedding_directory, embedding_size=CONTEXT, tokenizer_data=tokenizer_data or {}
        )


class TinyTokenizers(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            embedding_directory=embedding_directory, tokenizer_data=tokenizer_data or {}, tokenizer=TinyTokenizer
        )


def model_of(kind: str):
    """The network with its weights as the memory was."""
    config, network = KINDS[kind]
    if kind == "flux":
        known = comfy.ldm.flux.model.FluxParams.__dataclass_fields__
        network = {key: value for key, value in network.items() if key not in UNKNOWN_TO_OLDER or key in known}
    return config(network).get_model({}, device="cpu")


def make_model(seed: int, kind: str = "sd1"):
    with torch.inference_mode():
        model = model_of(kind)
        randomise(model.diffusion_model, seed)
    return comfy.model_patcher.ModelPatcher(
        model, load_device=model_management.get_torch_device(), offload_device=model_management.unet_offload_device()
    )


def empty_clip():
    return comfy.sd.CLIP(comfy.supported_models_base.ClipTarget(TinyTokenizers, TinyClip), parameters=1)


def make_clip(seed: int):
    with torch.inference_mode():
        clip = empty_clip()
        randomise(clip.cond_stage_model, seed)
    return clip


def vae_parameters(kind: str):
    channels = 16 if kind in FLOWS else 4
    return {"embed_dim": channels, "ddconfig": {**VAE, "z_channels": channels}}


def make_vae(seed: int, kind: str = "sd1"):
    parameters = vae_parameters(kind)
    with torch.inference_mode():
        network = comfy.ldm.models.autoencoder.AutoencoderKL(**parameters)
        randomise(network, seed)
        return comfy.sd.VAE(sd=network.state_dict(), config={"params": parameters})


def randomise(network: torch.nn.Module, seed: int) -> None:
    """ComfyUI's layers leave their weights as the memory was; norms get one, the rest small normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.ndim < 2:
                p.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                fan = p[0].numel()
                p.copy_(torch.randn(p.shape, generator=generator) * (1.0 / max(fan, 1)) ** 0.5)
        for name, buffer in network.named_buffers():
            if name.endswith("pos_embed"):  # SD3's, a part of its checkpoint
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
