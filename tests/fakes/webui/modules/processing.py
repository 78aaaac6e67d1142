"""A generation: noise instead of diffusion, every hook and text in the host's order."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import images
from .scripts import PostprocessImageArgs, ScriptRunner
from .shared import opts, state

SIZE = 40


@dataclass
class StableDiffusionProcessing:
    prompt: Any = "a cat"
    negative_prompt: str = "blurry"
    seed: Any = 5
    subseed: Any = 100
    subseed_strength: float = 0
    batch_size: int = 2
    n_iter: int = 2
    outpath_samples: str = ""
    outpath_grids: str = ""
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    extra_generation_params: dict[str, Any] = field(default_factory=dict)
    override_settings: dict[str, Any] = field(default_factory=dict)
    scripts: ScriptRunner | None = None
    script_args: tuple[Any, ...] = (0,)
    mask_for_overlay: Any = None
    txt2img_upscale: bool = False
    is_api: bool = False
    comments: dict[str, int] = field(default_factory=dict)
    frames: int = 1  # images that each seed of a batch yields: those of a video
    all_prompts: list[str] = field(default_factory=list, init=False)
    all_negative_prompts: list[str] = field(default_factory=list, init=False)
    all_seeds: list[int] = field(default_factory=list, init=False)
    all_subseeds: list[int] = field(default_factory=list, init=False)

    def save_samples(self) -> bool:
        return not self.do_not_save_samples

    def comment(self, text: str) -> None:
        self.comments[text] = 1


class Processed:
    def __init__(
        self,
        p: StableDiffusionProcessing,
        images_list: list[Any],
        seed: int = -1,
        info: str = "",
        index_of_first_image: int = 0,
        infotexts: list[str] | None = None,
    ) -> None:
        self.images, self.info, self.seed = images_list, info, seed
        self.subseed = p.all_subseeds[0]
        self.prompt, self.negative_prompt = p.all_prompts[0], p.all_negative_prompts[0]
        self.index_of_first_image = index_of_first_image
        self.all_prompts, self.all_negative_prompts = p.all_prompts, p.all_negative_prompts
        self.all_seeds, self.all_subseeds = p.all_seeds, p.all_subseeds
        self.infotexts = infotexts or [info] * len(images_list)
        self.comments = "".join(f"{comment}\n" for comment in p.comments)
        self.extra_generation_params = p.extra_generation_params


def create_infotext(
    p: Any,
    all_prompts: list[str],
    all_seeds: list[int],
    all_subseeds: list[int],
    use_main_prompt: bool = False,
    index: int | None = None,
    all_negative_prompts: list[str] | None = None,
) -> str:
    index = 0 if use_main_prompt or index is None else index
    negatives = all_negative_prompts or p.all_negative_prompts
    pairs = {"Steps": 20, "Sampler": "Euler", "Seed": all_seeds[index], **p.extra_generation_params}
    for key, value in pairs.items():
        if isinstance(value, list):
            pairs[key] = value[index]
        elif callable(value):
            pairs[key] = value(p=p, index=index, all_seeds=all_seeds, use_main_prompt=use_main_prompt)
    line = ", ".join(f"{key}: {_quoted(str(value))}" for key, value in pairs.items() if value is not None)
    return f"{all_prompts[index]}\nNegative prompt: {negatives[index]}\n{line}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))


def process_images(p: Any) -> Processed:
    count = p.batch_size * p.n_iter
    p.all_prompts = list(p.prompt) if isinstance(p.prompt, list) else [p.prompt] * count
    p.all_negative_prompts = [p.negative_prompt] * count
    p.all_seeds = (
        p.seed if isinstance(p.seed, list) else [p.seed + (i if not p.subseed_strength else 0) for i in range(count)]
    )
    p.all_subseeds = [p.subseed + i for i in range(count)]
    if p.frames > 1:
        p.do_not_save_grid = True
    _hook(p, "process", p)
    if state.job_count == -1:
        state.job_count = p.n_iter
    shown: list[Any] = []
    texts: list[str] = []
    for n in range(p.n_iter):
        if state.interrupted:
            break
        _one_batch(p, n, shown, texts)
    if not texts:
        texts.append(create_infotext(p, p.all_prompts, p.all_seeds, p.all_subseeds))
    first = _grid(p, shown, texts)
    processed = Processed(p, shown, p.all_seeds[0], texts[0], first, texts)
    _hook(p, "postprocess", p, processed)
    return processed


def _one_batch(p: Any, n: int, shown: list[Any], texts: list[str]) -> None:
    batch = slice(n * p.batch_size, (n + 1) * p.batch_size)
    p.iteration = n
    p.prompts, p.negative_prompts = p.all_prompts[batch], p.all_negative_prompts[batch]
    p.seeds, p.subseeds = p.all_seeds[batch], p.all_subseeds[batch]
    _hook(p, "process_batch", p)

    def infotext(index: int) -> str:
        return create_infotext(p, p.prompts, p.seeds, p.subseeds, index=index, all_negative_prompts=p.negative_prompts)

    for number in range(len(p.seeds) * p.frames):
        p.batch_index = number
        i = min(number, len(p.seeds) - 1)
        seed = p.seeds[i]
        before = infotext(i)  # of a file saved before the picture is finished
        assert "ImageReward: " not in before, before
        pp = PostprocessImageArgs(noise(seed + (number - i) * 1000 + (p.subseeds[i] if p.subseed_strength else 0)))
        _hook(p, "postprocess_image_after_composite", p, pp)
        image = pp.image
        if p.save_samples():
            images.save_image(image, p.outpath_samples, "", seed, p.prompts[i], opts.samples_format, infotext(i), p=p)
        texts.append(infotext(i))
        image.info["parameters"] = texts[-1]
        shown.append(image)
        if p.mask_for_overlay is not None:
            mask = Image.new("L", image.size, seed % 256).convert("RGB")  # tells whose mask it is
            if opts.save_mask and p.save_samples():
                images.save_image(
                    mask, p.outpath_samples, "", seed, p.prompts[i], "png", infotext(i), p=p, suffix="-mask"
                )
            if opts.return_mask:
                shown.append(mask)


def _grid(p: Any, shown: list[Any], texts: list[str]) -> int:
    if p.do_not_save_grid or len(shown) < 2 or not (opts.return_grid or opts.grid_save):
        return 0
    grid = images.image_grid(shown, p.batch_size)
    text = create_infotext(p, p.all_prompts, p.all_seeds, p.all_subseeds, use_main_prompt=True)
    texts.insert(0, text)
    shown.insert(0, grid)
    images.save_image(grid, p.outpath_grids, "grid", info=text, short_filename=True, p=p, grid=True)
    return 1


def _hook(p: Any, name: str, *args: Any) -> None:
    if p.scripts is not None:
        p.scripts.call(name, *args)


def processing_for(folder: Path, *scripts: Any, chosen: Any = None, **fields: Any) -> StableDiffusionProcessing:
    """A processing object that saves into `folder`. Not of the host: a help for the tests. chosen: in the dropdown."""
    runner = ScriptRunner(*scripts)
    runner.selectable_scripts = [] if chosen is None else [chosen]
    p = StableDiffusionProcessing(
        outpath_samples=str(folder / "images"), outpath_grids=str(folder / "grids"), scripts=runner, **fields
    )
    _hook(p, "setup", p)
    return p
