"""Stand-in of `comfy.ldm.modules.diffusionmodules.openaimodel`: the U-Net, with the host's names of its layers."""

from __future__ import annotations

from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from comfy.ops import manual_cast as ops
from torch import Tensor, nn


class Timestep(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, t: Tensor) -> Tensor:
        return timestep_embedding(t, self.dim)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ops.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = ops.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class ResBlock(nn.Module):
    def __init__(self, channels: int, emb_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            ops.GroupNorm(8, channels), nn.SiLU(), ops.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), ops.Linear(emb_channels, out_channels))
        self.out_layers = nn.Sequential(
            ops.GroupNorm(8, out_channels),
            nn.SiLU(),
            nn.Identity(),
            ops.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.skip_connection = ops.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        hidden = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(hidden)


class UNetModel(nn.Module):
    def __init__(
        self,
        image_size: int,
        in_channels: int,
        model_channels: int,
        out_channels: int,
        num_res_blocks: list[int],
        channel_mult: list[int],
        num_heads: int,
        transformer_depth: list[int],
        transformer_depth_output: list[int],
        transformer_depth_middle: int,
        context_dim: int,
        use_linear_in_transformer: bool = False,
        adm_in_channels: int | None = None,
        dtype: torch.dtype = torch.float32,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.dtype, self.model_channels = dtype, model_channels
        width = 4 * model_channels
        self.time_embed = nn.Sequential(ops.Linear(model_channels, width), nn.SiLU(), ops.Linear(width, width))
        self.label_emb = (
            nn.Sequential(nn.Sequential(ops.Linear(adm_in_channels, width), nn.SiLU(), ops.Linear(width, width)))
            if adm_in_channels
            else None
        )

        def block(channels: int, out: int, depth: int) -> list[nn.Module]:
            parts: list[nn.Module] = [ResBlock(channels, width, out)]
            if depth:
                parts.append(SpatialTransformer(out, num_heads, depth, context_dim, use_linear_in_transformer))
            return parts

        depths, channels = list(transformer_depth), model_channels
        self.input_blocks = nn.ModuleList([_sequence([ops.Conv2d(in_channels, channels, 3, padding=1)])])
        skipped = [channels]
        for level, times in enumerate(channel_mult):
            for _ in range(num_res_blocks[level]):
                self.input_blocks.append(_sequence(block(channels, times * model_channels, depths.pop(0))))
                channels = times * model_channels
                skipped.append(channels)
            if level < len(channel_mult) - 1:
                self.input_blocks.append(_sequence([Downsample(channels)]))
                skipped.append(channels)
        self.middle_block = _sequence(
            [*block(channels, channels, transformer_depth_middle), ResBlock(channels, width, channels)]
        )
        depths = list(transformer_depth_output)
        self.output_blocks = nn.ModuleList()
        for level, times in reversed(list(enumerate(channel_mult))):
            for i in range(num_res_blocks[level] + 1):
                parts = block(channels + skipped.pop(), times * model_channels, depths.pop())
                channels = times * model_channels
                if level and i == num_res_blocks[level]:
                    parts.append(Upsample(channels))
                self.output_blocks.append(_sequence(parts))
        self.out = nn.Sequential(
            ops.GroupNorm(8, channels), nn.SiLU(), ops.Conv2d(channels, out_channels, 3, padding=1)
        )

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        embedding = self.time_embed(timestep_embedding(timesteps, self.model_channels).to(x.dtype))
        if self.label_emb is not None:
            embedding = embedding + self.label_emb(y)
        given = (embedding, context, {} if transformer_options is None else transformer_options)
        skipped = []
        for block in self.input_blocks:
            x = _run(block, x, *given)
            skipped.append(x)
        x = _run(self.middle_block, x, *given)
        for block in self.output_blocks:
            x = _run(block, torch.cat([x, skipped.pop()], dim=1), *given)
        return self.out(x)


def _sequence(parts: list[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*parts)


def _run(block: nn.Module, x: Tensor, embedding: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
    for part in block.children():
        if isinstance(part, ResBlock):
            x = part(x, embedding)
        elif isinstance(part, SpatialTransformer):
            x = part(x, context, options)
        else:
            x = part(x)
    return x
