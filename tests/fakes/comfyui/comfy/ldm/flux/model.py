"""Stand-in of `comfy.ldm.flux.model`: Flux.1's transformer, with the host's names of its layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.ldm.flux.layers import DoubleStreamBlock, EmbedND, LastLayer, MLPEmbedder, SingleStreamBlock
from comfy.ldm.modules.diffusionmodules.mmdit import unpatchify
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from comfy.ops import manual_cast as ops
from torch import Tensor, nn

FREQUENCIES = 256


@dataclass
class FluxParams:
    in_channels: int
    out_channels: int
    vec_in_dim: int
    context_in_dim: int
    hidden_size: int
    mlp_ratio: float
    num_heads: int
    depth: int
    depth_single_blocks: int
    axes_dim: list[int]
    theta: int
    patch_size: int
    qkv_bias: bool
    guidance_embed: bool
    txt_ids_dims: list[int] = field(default_factory=list)


class Flux(nn.Module):
    def __init__(
        self,
        image_model: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
        operations: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        params = FluxParams(**kwargs)
        self.dtype, self.params, self.patch_size = dtype, params, params.patch_size
        width = params.hidden_size
        self.img_in = ops.Linear(params.in_channels * params.patch_size**2, width)
        self.txt_in = ops.Linear(params.context_in_dim, width)
        self.time_in, self.guidance_in = (MLPEmbedder(FREQUENCIES, width) for _ in range(2))
        self.vector_in = MLPEmbedder(params.vec_in_dim, width)
        self.pe_embedder = EmbedND(width // params.num_heads, params.theta, params.axes_dim)
        self.double_blocks = nn.ModuleList(
            DoubleStreamBlock(width, params.num_heads, params.mlp_ratio) for _ in range(params.depth)
        )
        self.single_blocks = nn.ModuleList(
            SingleStreamBlock(width, params.num_heads, params.mlp_ratio) for _ in range(params.depth_single_blocks)
        )
        self.final_layer = LastLayer(width, params.patch_size, params.out_channels)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        y: Tensor,
        guidance: Tensor,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        img = self.img_in(nn.functional.pixel_unshuffle(x, self.patch_size).flatten(2).transpose(1, 2))  # BCHW -> BNC
        txt = self.txt_in(context)
        vec = self.time_in(timestep_embedding(1000 * timestep, FREQUENCIES).to(x.dtype)) + self.vector_in(y)
        vec = vec + self.guidance_in(timestep_embedding(1000 * guidance, FREQUENCIES).to(x.dtype))
        rows, columns = (side // self.patch_size for side in x.shape[2:])
        pe = self.pe_embedder(_positions(txt.shape[1], rows, columns))
        for double in self.double_blocks:
            img, txt = double(img=img, txt=txt, vec=vec, pe=pe, transformer_options=options)
        img = torch.cat([txt, img], dim=1)
        for single in self.single_blocks:
            img = single(img, vec=vec, pe=pe, transformer_options=options)
        return unpatchify(self.final_layer(img[:, txt.shape[1] :], vec), rows, self.patch_size)


def _positions(texts: int, rows: int, columns: int) -> Tensor:
    """(1, texts + rows * columns, 3): nothing, row, column."""
    grid = torch.zeros(rows, columns, 3)
    grid[..., 1], grid[..., 2] = torch.arange(rows)[:, None], torch.arange(columns)[None]
    return torch.cat([torch.zeros(texts, 3), grid.flatten(0, 1)])[None]
