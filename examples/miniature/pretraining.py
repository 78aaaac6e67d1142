"""Everything that others download, trained from nothing: VAE, U-Net with its text encoder, BLIP and CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.networks.wordpiece import WordPiece
from . import networks
from .words import write_byte_pairs, write_wordpiece
from .world import CAPTIONS, paint_caption, random_faults

Report = Callable[[str], None]


@dataclass(frozen=True)
class Paintings:
    """Painted pictures with the captions that they were painted for, and with what went wrong."""

    pixels: Tensor  # (N, 3, H, W) uint8
    texts: list[str]

    def floats(self, rows: Tensor) -> Tensor:
        return self.pixels[rows].float() / 255


def paint(texts: Sequence[str], count: int, faults: float, seed: int) -> Paintings:
    """faults: how many a picture has on average."""
    rng = np.random.default_rng([seed, 2])
    chosen = [texts[rng.integers(len(texts))] for _ in range(count)]
    pictures = [paint_caption(text, rng, random_faults(rng, faults)) for text in chosen]
    return Paintings(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), chosen)


def train(
    name: str,
    parameters: Sequence[nn.Parameter],
    loss_of: Callable[[int], Tensor],
    steps: int,
    rate: float,
    report: Report,
) -> None:
    """AdamW with a warm-up and a cosine."""
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / 50, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    recent: list[float] = []
    for step in range(steps):
        loss = loss_of(step)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        recent.append(loss.item())
        if (step + 1) % max(steps // 10, 1) == 0:
            report(f"{name}: step {step + 1} of {steps}, loss {sum(recent) / len(recent):.4f}")
            recent.clear()


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(count, generator=generator)[: count // size * size].split(size)


# -- Stable Diffusion ----------------------------------------------------------------------------------------------


def train_vae(paintings: Paintings, steps: int, seed: int, report: Report) -> Any:
    torch.manual_seed(seed)
    vae = networks.vae()
    batches = _batches(len(paintings.texts), 16, torch.Generator().manual_seed(seed))

    def loss_of(step: int) -> Tensor:
        pixels = paintings.floats(next(batches)) * 2 - 1
        spread = vae.encode(pixels).latent_dist
        drawn = vae.decode(spread.sample()).sample
        return F.l1_loss(drawn, pixels) + F.mse_loss(drawn, pixels) + 1e-5 * spread.kl().mean() / 16

    train("VAE", list(vae.parameters()), loss_of, steps, 3e-3, report)
    _rescale(vae, paintings)
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def _rescale(vae: Any, paintings: Paintings) -> None:
    """Give the latents the deviation that Stable Diffusion's scaling factor expects."""
    spread = vae.encode(paintings.floats(torch.arange(256)) * 2 - 1).latent_dist
    scale = 1 / (networks.SCALING * spread.mean.std())
    channels = len(vae.quant_conv.weight) // 2
    vae.quant_conv.weight[:channels] *= scale
    vae.quant_conv.bias[:channels] *= scale
    vae.quant_conv.bias[channels:] += 2 * scale.log()
    vae.post_quant_conv.weight /= scale


def train_generator(vae: Any, clip: Path, paintings: Paintings, steps: int, seed: int, report: Report) -> Any:
    """A Stable Diffusion 1 pipeline: noise prediction, captions left out in a tenth of the steps for guidance.

    clip: the folder of a CLIP, whose text encoder is the start of the pipeline's.
    """
    from diffusers import DDPMScheduler
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    tokenizer, _ = networks.clip_tokenizer()
    unet, text_encoder = networks.unet(), CLIPTextModel.from_pretrained(clip)
    scheduler = DDPMScheduler(**networks.BETAS)
    latents = _encoded(vae, paintings)
    known = ["", *CAPTIONS]
    ids = tokenizer(known, padding="max_length", return_tensors="pt").input_ids
    places = torch.tensor([known.index(text) for text in paintings.texts])
    generator = torch.Generator().manual_seed(seed)
    batches = _batches(len(places), 48, generator)
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    averages = [parameter.detach().clone() for parameter in parameters]

    def loss_of(step: int) -> Tensor:
        _average(averages, parameters, min(0.995, (step + 1) / (step + 10)))
        rows = next(batches)
        texts = places[rows] * (torch.rand(len(rows), generator=generator) > 0.1)
        noise = torch.randn(latents[rows].shape, generator=generator)
        timesteps = torch.randint(1000, (len(rows),), generator=generator)
        used, owner = texts.unique(return_inverse=True)
        states = text_encoder(ids[used])[0][owner]
        noisy = scheduler.add_noise(latents[rows], noise, timesteps)
        return F.mse_loss(unet(noisy, timesteps, states).sample, noise)

    train("U-Net", parameters, loss_of, steps, 2e-3, report)
    _average(parameters, averages, 0.0)
    for network in (unet, text_encoder):
        network.eval().requires_grad_(False)
    return networks.pipeline(vae, unet, text_encoder, tokenizer)


@torch.no_grad()
def _encoded(vae: Any, paintings: Paintings) -> Tensor:
    every = torch.arange(len(paintings.texts)).split(256)
    return torch.cat([vae.encode(paintings.floats(rows) * 2 - 1).latent_dist.mean for rows in every]) * networks.SCALING


@torch.no_grad()
def _average(averages: Sequence[Tensor], values: Sequence[Tensor], decay: float) -> None:
    for average, value in zip(averages, values, strict=True):
        average.lerp_(value, 1 - decay)


# -- scorers -------------------------------------------------------------------------------------------------------


def train_blip(paintings: Paintings, folder: Path, steps: int, seed: int, report: Report) -> Path:
    """BLIP on pictures with their captions: contrast of both embeddings, and matching with hard negatives."""
    torch.manual_seed(seed)
    blip = networks.Blip(write_wordpiece(folder))
    tokenizer = WordPiece(folder / "vocab.txt")
    ids, mask = _blip_ids(tokenizer, list(CAPTIONS))
    places = torch.tensor([list(CAPTIONS).index(text) for text in paintings.texts])
    generator = torch.Generator().manual_seed(seed)
    batches = _batches(len(places), 48, generator)

    def loss_of(step: int) -> Tensor:
        rows = next(batches)
        pictures, texts = blip.towers.visual_encoder(_normalised(paintings.floats(rows))), places[rows]
        seen = F.normalize(blip.towers.vision_proj(pictures[:, 0]), dim=-1)
        read = F.normalize(blip.towers.text_embedding(ids[texts], mask[texts]), dim=-1)
        logits = seen @ read.T / blip.temperature.clamp(0.01, 0.5)
        wrong = texts[:, None] != texts
        contrast = _contrast(logits, ~wrong)
        picks = torch.multinomial(logits.detach().softmax(-1) * wrong + 1e-9 * wrong, 1, generator=generator)[:, 0]
        asked = torch.cat((texts, texts[picks]))
        state = blip.towers.text_encoder(ids[asked], mask[asked], pictures.repeat(2, 1, 1))
        target = torch.cat((torch.ones_like(texts), torch.zeros_like(texts)))
        return contrast + F.cross_entropy(blip.matching(state), target)

    train("BLIP", list(blip.parameters()), loss_of, steps, 1e-3, report)
    return networks.write_blip(blip, folder)


def train_clip(paintings: Paintings, folder: Path, steps: int, seed: int, report: Report) -> Path:
    torch.manual_seed(seed)
    write_byte_pairs(folder)
    tokenizer, vocabulary = networks.clip_tokenizer()
    clip = networks.clip(vocabulary)
    ids = tokenizer(list(CAPTIONS), padding=True, return_tensors="pt").input_ids
    places = torch.tensor([list(CAPTIONS).index(text) for text in paintings.texts])
    batches = _batches(len(places), 64, torch.Generator().manual_seed(seed))

    def loss_of(step: int) -> Tensor:
        rows = next(batches)
        texts = places[rows]
        out = clip(input_ids=ids[texts], pixel_values=_normalised(paintings.floats(rows)))
        return _contrast(out.logits_per_image, texts[:, None] == texts)

    train("CLIP", list(clip.parameters()), loss_of, steps, 1e-3, report)
    clip.save_pretrained(folder, safe_serialization=True)
    return folder / "model.safetensors"


def _contrast(logits: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy both ways; (B, B) logits, and which pictures and captions belong together."""
    target = same.float() / same.sum(-1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _normalised(pixels: Tensor) -> Tensor:
    from ...core.networks.pixels import normalise

    return normalise(pixels)


def _blip_ids(tokenizer: WordPiece, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    ids, mask = tokenizer.batch([tokenizer.encode(text).ids for text in texts])
    return ids, torch.ones_like(ids) if mask is None else mask
