"""How good is this text-to-image model? Prompts for topics -> images -> mean reward and its components.

    pip install -e ".[refl]"
    python examples/validate_model.py stable-diffusion-v1-5/stable-diffusion-v1-5 --library prompts.json \
        "a landscape, detailed" "a portrait" -n 5 --scorer "mix(imagereward=1, aesthetic=0.1)"

The same topics, library, seed and scorer give the same prompts and noise for every model, so that models can be compared.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sd_imagereward.core import Scorer, default_device, load_scorer, save_image, score_images, set_scores
from sd_imagereward.core.prompts import PromptLibrary, load_embedder

Generate = Callable[[str, int], Image.Image]  # (prompt, seed) -> image


@dataclass(frozen=True)
class Validation:
    """What a model earned."""

    topics: list[str]
    prompts: list[str]
    rewards: dict[str, list[float]]  # the total first, then each component, by title

    def mean(self, title: str) -> tuple[float, float]:
        """Mean and its standard error over the images."""
        values = torch.tensor(self.rewards[title], dtype=torch.float64)
        error = values.std() / len(values) ** 0.5 if len(values) > 1 else torch.tensor(float("nan"))
        return float(values.mean()), float(error)

    def table(self) -> str:
        rows = [f"{title:<24} {self.mean(title)[0]:>9.4f} ± {self.mean(title)[1]:.4f}" for title in self.rewards]
        return "\n".join([f"{len(self.prompts)} images of {len(set(self.topics))} topics", *rows])


def validate(
    generate: Generate,
    library: PromptLibrary,
    topics: Sequence[str],
    scorer: Scorer,
    folder: Path,
    *,
    n: int,
    seed: int,
) -> Validation:
    """Makes an image for each of `n` prompts a topic, saves it with its scores inside, and scores them all."""
    found = [(topic, s.text) for topic, some in zip(topics, library.suggest(topics, n), strict=True) for s in some]
    folder.mkdir(parents=True, exist_ok=True)
    images = [generate(prompt, seed + i) for i, (_, prompt) in enumerate(found)]
    scores = score_images(scorer, images, [prompt for _, prompt in found])
    titles = [scorer.info.title, *(title for title in scores.components if title != scorer.info.title)]
    rewards = {title: (scores.total if title == titles[0] else scores.components[title]).tolist() for title in titles}
    for i, ((_, prompt), image) in enumerate(zip(found, images, strict=True)):
        text = set_scores(f"{prompt}\nSeed: {seed + i}", {title: values[i] for title, values in rewards.items()})
        save_image(image, folder / f"{i:04d}.png", parameters=text)
    result = Validation([topic for topic, _ in found], [prompt for _, prompt in found], rewards)
    text = json.dumps(vars(result), indent=2, ensure_ascii=False) + "\n"
    (folder / "validation.json").write_text(text, encoding="utf-8")
    return result


def diffusers_generator(model: str, device: str, steps: int, guidance: float) -> Generate:
    """A pipeline of diffusers, whichever the model needs."""
    from diffusers import AutoPipelineForText2Image

    dtype = torch.float32 if device == "cpu" else torch.float16
    pipeline: Any = AutoPipelineForText2Image.from_pretrained(model, torch_dtype=dtype).to(device)

    def generate(prompt: str, seed: int) -> Image.Image:
        noise = torch.Generator("cpu").manual_seed(seed)  # the same on every device
        return pipeline(prompt, num_inference_steps=steps, guidance_scale=guidance, generator=noise).images[0]

    return generate


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder, or a repository of the Hub, that diffusers loads")
    parser.add_argument("topics", nargs="+")
    parser.add_argument("--library", required=True, help="prompts as TXT, JSON, JSONL, CSV or Parquet")
    parser.add_argument("-n", type=int, default=5, help="prompts a topic")
    parser.add_argument("--scorer", default="imagereward", help="a name, a file, or mix(name=weight, ...)")
    parser.add_argument("--embedder", default="clip")
    parser.add_argument("--device", default=str(default_device()))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("validation"))
    args = parser.parse_args(argv)
    library = PromptLibrary(args.library, load_embedder(args.embedder, device=args.device))
    generate = diffusers_generator(args.model, args.device, args.steps, args.guidance)
    scorer = load_scorer(args.scorer, device=args.device)
    print(validate(generate, library, args.topics, scorer, args.output, n=args.n, seed=args.seed).table())


if __name__ == "__main__":
    main()
