"""Stand-in of `comfy.ldm.modules.diffusionmodules.model`: the decoder of a VAE."""

from __future__ import annotations

from typing import Any

from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import Upsample
from comfy.ops import manual_cast as ops
from torch import Tensor, nn


class ResnetBlock(nn.Module):
    def __init__(self, *, in_channels: int, **kwargs: Any) -> None:
        super().__init__()
        self.norm1, self.norm2 = (ops.GroupNorm(8, in_channels) for _ in range(2))
        self.conv1, self.conv2 = (ops.Conv2d(in_channels, in_channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor, temb: Any = None) -> Tensor:
        hidden = self.conv1(nn.functional.silu(self.norm1(x)))
        return x + self.conv2(nn.functional.silu(self.norm2(hidden)))


class AttnBlock(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm = ops.GroupNorm(8, in_channels)
        self.q, self.k, self.v, self.proj_out = (ops.Conv2d(in_channels, in_channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (layer(normed).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))  # BCHW -> BNC
        return x + self.proj_out(attention_pytorch(q, k, v, 1).transpose(1, 2).reshape(x.shape))


class Decoder(nn.Module):
    def __init__(self, *, ch: int, out_ch: int, ch_mult: list[int], z_channels: int, **kwargs: Any) -> None:
        super().__init__()
        self.conv_in = ops.Conv2d(z_channels, ch, 3, padding=1)
        self.mid = nn.Sequential(ResnetBlock(in_channels=ch), AttnBlock(ch))
        self.up = nn.Sequential(*(Upsample(ch) for _ in ch_mult[1:]))
        self.norm_out = ops.GroupNorm(8, ch)
        self.conv_out = ops.Conv2d(ch, out_ch, 3, padding=1)

    def forward(self, z: Tensor, **kwargs: Any) -> Tensor:
        hidden = self.up(self.mid(self.conv_in(z)))
        return self.conv_out(nn.functional.silu(self.norm_out(hidden)))
