"""An estimate, without a GPU, of the memory of one ReFL update of a LoRA: weights, and what is alive at the worst moment.

    python benchmarks/refl_memory.py            # SD1.5 at 512 and SDXL at 1024 pixels, rank 8, bfloat16, batch 1

The step that carries gradient (U-Net, then VAE decoder and ImageReward with a backward pass of their own, then the U-Net's;
blocks recomputed) runs on torch's meta device at real size, where tensors have shapes and no numbers; a dispatch mode adds up
the storages that are alive. "Taking turns" is what ComfyUI needs, which can swap the U-Net with the other two. Attention counts
as a fused kernel keeps it (queries, keys, values, output and one float32 per query). Not counted: the workspaces of cuDNN and
cuBLAS, CUDA's own context and what the allocator loses to fragments, so a real GPU shows more.
"""

from __future__ import annotations

import weakref
from typing import Any

import refl  # the benchmark beside this file: it mounts the package and knows the sizes
import torch
from sd_imagereward.core.networks.bert import BertSizes
from sd_imagereward.core.networks.vit import ViTSizes
from sd_imagereward.core.refl import DiffusersGenerator, ReflConfig
from sd_imagereward.core.refl.generator import DRAWN_AT_ONCE
from sd_imagereward.core.refl.losses import reward_loss
from sd_imagereward.core.refl.tuning import LoraTuning
from sd_imagereward.core.scorers.imagereward import ImageRewardNetwork
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META, GIB = torch.device("meta"), 2**30
VISION = ViTSizes(width=1024, depth=24, heads=16, hidden=4096, patch=16, image_size=224)
TEXT = BertSizes(vocabulary=30524, positions=512, width=768, depth=12, heads=12, hidden=3072, image_width=1024)


class LiveStorages(TorchDispatchMode):
    """Bytes of all storages that operations made and that are still referenced: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage(), given)
        return result

    def take_peak(self) -> int:
        """The peak since this was last asked for."""
        peak, self.peak = self.peak, self.now
        return peak

    def _count(self, storage: Any, given: set[int]) -> None:
        if storage._cdata in self.known or storage._cdata in given:
            return
        self.known.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


class FusedAttention(torch.autograd.Function):
    """Shapes of flash attention (arXiv 2205.14135): no matrix of queries by keys, forward or backward."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(each) for each in ctx.saved_tensors[:3])


def bytes_of(*modules: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for module in modules for tensor in module.parameters())


def reward_network() -> ImageRewardNetwork:
    """ImageReward at its real size, in float32 as the trainer loads it."""
    return ImageRewardNetwork(VISION, TEXT).eval().requires_grad_(False)


@torch.no_grad()
def drawn_without_gradient(generator: DiffusersGenerator, side: int, storages: LiveStorages) -> int:
    """Bytes at most of a step of an evaluation: as many pictures as it draws at once, with guidance."""
    rows = 2 * DRAWN_AT_ONCE
    before = storages.now
    latents, step = torch.empty((rows, 4, side // 8, side // 8)), torch.zeros((1,), dtype=torch.int64)
    time_ids = generator.time_ids([(side, side, 0, 0)] * rows, (side, side)) if generator.traits.pooled else None
    generator.predict(latents, step, generator.conditioning(["a prompt"] * rows), time_ids)
    return storages.take_peak() - before


def estimate(size: str) -> None:
    pipeline = refl.RandomPipeline(size, META, torch.bfloat16)
    generator = DiffusersGenerator(pipeline, dtype=torch.bfloat16, device=META)
    tuning = LoraTuning.of(generator, ReflConfig(lora_rank=8))
    generator.gradient_checkpointing(True)
    side = refl.SIZES[size]["resolution"]
    with META:
        reward = reward_network()
        tokens, step = torch.zeros((1, 35), dtype=torch.int64), torch.zeros((1,), dtype=torch.int64)
        conditioning, latents = generator.conditioning(["a prompt"]), torch.empty((1, 4, side // 8, side // 8))
        time_ids = generator.time_ids([(side, side, 0, 0)], (side, side)) if generator.traits.pooled else None
        with LiveStorages() as storages:
            x0 = latents - generator.predict(latents, step, conditioning, time_ids)
            drawing = storages.take_peak()
            seen = x0.detach().requires_grad_()
            pixels = F.interpolate(generator.decode(seen), (224, 224), mode="bicubic", antialias=True)
            loss = reward_loss(reward(tokens, None, reward.image_features(pixels)))
            (gradient,) = torch.autograd.grad(loss, seen)
            del pixels, loss
            scoring = storages.take_peak()
            (gradient * x0).sum().backward()
            drawing = max(drawing, storages.take_peak())
            del x0, gradient, seen
            storages.take_peak()
            evaluating = drawn_without_gradient(generator, side, storages)
    lora = sum(parameter.numel() * 4 for parameter in tuning.parameters().values())
    network, scorers = bytes_of(generator.network) - lora, bytes_of(generator.vae) + bytes_of(reward)
    rows = {
        "U-Net, bfloat16": network,
        "VAE, bfloat16": bytes_of(generator.vae),
        "ImageReward, float32": bytes_of(reward),
        "LoRA and Adam's two moments, float32": 3 * lora,
        "activations at most: U-Net, there and back": drawing,
        "activations at most: VAE and ImageReward": scoring,
        f"activations at most: {DRAWN_AT_ONCE} evaluated at once": evaluating,
        "at most, all networks in memory": network + scorers + 3 * lora + max(drawing, scoring),
        "at most, taking turns": 3 * lora + max(network + drawing, scorers + scoring),
    }
    print(f"{size}: {side} pixels square, LoRA rank 8, batch 1, gradient checkpointing (estimate)")
    for what, count in rows.items():
        print(f"  {what:<44} {count / GIB:6.2f} GiB")
    print(f"  {'goal':<44} {refl.SIZES[size]['goal']:6.2f} GiB", flush=True)


if __name__ == "__main__":
    nn.functional.scaled_dot_product_attention = lambda query, key, value, *_, **__: FusedAttention.apply(
        query, key, value
    )
    for size in ("sd15", "sdxl"):
        estimate(size)
