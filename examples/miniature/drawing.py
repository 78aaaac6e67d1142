"""Pictures that a model draws: captions x noises, untuned, fully tuned, or with a LoRA at some strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ...core.refl.diffusers_generator import DiffusersGenerator
from ...core.refl.generator import Sampling
from ...core.refl.lora_files import lora_from_tensors, read_lora
from ...core.refl.randomness import SampleNoise, derive_seed
from ...core.refl.update import draw
from .world import CAPTIONS, SIDE, Pixels

STEPS = 20
GUIDANCE = 3.0  # what pictures of this world are usually drawn with
AT_ONCE = 64
IDS = {text: f"{number:03d}" for number, text in enumerate(CAPTIONS)}


@dataclass(frozen=True)
class Artist:
    """A model folder, perhaps with a LoRA."""

    model: Path
    lora: Path | None = None
    strength: float = 1.0
    guidance: float = GUIDANCE

    def draw(self, jobs: Sequence[tuple[str, object]]) -> list[Pixels]:
        """jobs: (caption, name of the noise); the same name is the same noise for every artist."""
        generator = DiffusersGenerator.load(str(self.model), device="cpu")
        generator.precompute_embeddings(["", *dict.fromkeys(text for text, _ in jobs)])
        if self.lora is not None:
            lora = lora_from_tensors(read_lora(self.lora).tensors, generator.layers())
            generator.attach(lora)
            with lora.at(self.strength):
                return self._draw(generator, jobs)
        return self._draw(generator, jobs)

    @torch.no_grad()
    def _draw(self, generator: DiffusersGenerator, jobs: Sequence[tuple[str, object]]) -> list[Pixels]:
        sampling = Sampling(SIDE, SIDE, steps=STEPS, sampler="ddim", guidance=self.guidance)
        drawn: list[Pixels] = []
        for first in range(0, len(jobs), AT_ONCE):
            batch = jobs[first : first + AT_ONCE]
            noise = SampleNoise.of_seeds([derive_seed("miniature", name, text) for text, name in batch])
            pixels = generator.decode(draw(generator, sampling, [text for text, _ in batch], noise))
            drawn += list((pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
        return drawn

    def draw_into(self, folder: Path, captions: Sequence[str], noises: Sequence[object]) -> None:
        """Files `<id of the caption>_<number of the noise>.png`, as `imagereward benchmark` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(text, noise) for text in captions for noise in noises]
        for (text, noise), pixels in zip(jobs, self.draw(jobs), strict=True):
            Image.fromarray(pixels).save(folder / f"{IDS[text]}_{noises.index(noise)}.png")
