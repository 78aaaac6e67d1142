"""A whole Stable Diffusion pipeline as one .safetensors file in the layout of the original programs (CompVis, Stability).

A1111, Forge and ComfyUI load such files as checkpoints. diffusers names the same layers in another way; this is the table
from its names to the original ones (the inverse of diffusers' `from_single_file`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ImageRewardError
from ..files.atomic import replacing_path
from .families import DIFFUSERS_TITLES, FAMILIES, DiffusersFamily

UNET, VAE = "model.diffusion_model.", "first_stage_model."

_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_RENAMES = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "mid_block.attentions.0.to_": "mid.attn_1.",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
}
_OPEN_CLIP_RENAMES = {
    "encoder.layers.": "transformer.resblocks.",
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "layer_norm": "ln_",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def write_single_file(
    pipeline: Any, family: DiffusersFamily, path: str | Path, dtype: torch.dtype | None = torch.float16
) -> Path:
    """Write a pipeline as a checkpoint file; `dtype` None keeps every tensor's own type.

    Written beside and renamed. Raises ImageRewardError where a weight does not fit into `dtype`.
    """
    from safetensors.torch import save_file

    path = Path(path)
    tensors = {key: _stored(key, tensor, dtype) for key, tensor in original_tensors(pipeline, family).items()}
    with replacing_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    return path


def family_of_file(keys: Iterable[str]) -> DiffusersFamily | None:
    """The family that a checkpoint in this layout is of, by its text encoders; None where it is none of the table's."""
    keys = list(keys)
    for family in FAMILIES.values():
        encoders = family.diffusers.text_encoders if family.diffusers is not None else ()
        if encoders and all(any(key.startswith(encoder.prefix) for key in keys) for encoder in encoders):
            return family.diffusers
    return None


def original_tensors(pipeline: Any, family: DiffusersFamily) -> dict[str, Tensor]:
    """The tensors of a pipeline under their original names, in the original shapes; views wherever that is possible."""
    layers = pipeline.unet.config.layers_per_block
    tensors = {UNET + key: tensor for key, tensor in unet_tensors(pipeline.unet.state_dict(), layers).items()}
    tensors |= {VAE + key: tensor for key, tensor in vae_tensors(pipeline.vae.state_dict()).items()}
    for encoder in family.text_encoders:
        state = getattr(pipeline, encoder.part).state_dict()
        rename = open_clip_tensors if encoder.open_clip else clip_tensors
        tensors |= {encoder.prefix + key: tensor for key, tensor in rename(state).items()}
    if family.velocity_key and pipeline.scheduler.config.prediction_type == "v_prediction":
        tensors[family.velocity_key] = torch.zeros(0)
    return tensors


def unet_tensors(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """`layers` is the U-Net's layers_per_block."""
    attentive = {key.split(".")[1] for key in state if re.match(r"up_blocks\.\d+\.attentions\.", key)}
    return {_unet_key(key, layers, attentive): tensor for key, tensor in state.items()}


def _unet_key(key: str, layers: int, attentive: set[str]) -> str:
    """Original blocks are numbered through: `layers` and a resize on each level down, one layer more on each level up."""
    for ours, original in _UNET_ENDS.items():
        if key.startswith(f"{ours}."):
            return _resnet_key(original + key[len(ours) :]) if "resnets" in ours else original + key[len(ours) :]
    block = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", key)
    if block is None:
        raise ImageRewardError(
            f"the U-Net's {key} has no place in a single file: expected the layers of {DIFFUSERS_TITLES}"
        )
    way, level, kind, number, rest = block.groups()
    n = int(level) * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{n + layers + 1}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{n + layers}.{2 if level in attentive else 1}.{rest}"
    first = f"input_blocks.{n + int(number) + 1}" if way == "down" else f"output_blocks.{n + int(number)}"
    return _resnet_key(f"{first}.0.{rest}") if kind == "resnets" else f"{first}.1.{rest}"


def _resnet_key(key: str) -> str:
    head, layer, end = key.rsplit(".", 2)
    return f"{head}.{_UNET_RESNET[layer]}.{end}"


def vae_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    levels = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("decoder.up_blocks."))
    tensors = {}
    for key, tensor in state.items():
        if "attentions" in key and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]  # the original's attention is made of 1 x 1 convolutions
        tensors[_vae_key(key, levels)] = tensor
    return tensors


def _vae_key(key: str, levels: int) -> str:
    """The original numbers the decoder's levels from the picture inward, diffusers the way they are run."""
    key = _renamed(key, _VAE_RENAMES)
    key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", key)
    key = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda level: f"up.{levels - 1 - int(level[1])}.upsample", key)
    return re.sub(r"up_blocks\.(\d+)\.resnets", lambda level: f"up.{levels - 1 - int(level[1])}.block", key)


def clip_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's text tower keeps transformers' names; transformers 5 lost their first word."""
    return {f"text_model.{key}": tensor for key, tensor in _tower(state)}


def open_clip_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tower = dict(_tower(state))
    tensors = {}
    for key, tensor in tower.items():
        if ".self_attn.q_proj." in key:  # queries, keys and values are one matrix there
            name = re.sub(r"self_attn\.q_proj\.", "attn.in_proj_", key)
            tensor = torch.cat([tower[key.replace("q_proj", each)] for each in ("q_proj", "k_proj", "v_proj")])
        elif re.search(r"\.self_attn\.[kv]_proj\.", key):
            continue
        elif key == "text_projection.weight":
            name, tensor = "text_projection", tensor.T
        else:
            name = key
        tensors[_renamed(name, _OPEN_CLIP_RENAMES)] = tensor
    return tensors


def _tower(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in state.items():
        if not key.endswith("position_ids"):  # the numbers 0 .. 76, which every program makes itself
            yield key.removeprefix("text_model."), tensor


def _renamed(key: str, renames: Mapping[str, str]) -> str:
    for ours, original in renames.items():
        key = key.replace(ours, original)
    return key


def _stored(key: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    stored = tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
    if dtype is not None and not torch.isfinite(stored).all():
        raise ImageRewardError(
            f"{key} holds NaN, infinity or a number too large for {dtype}: no single file written; the diffusers folder has it"
        )
    return stored
