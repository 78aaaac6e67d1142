"""Run by the host's Python: whole ReFL runs and ReNO, on weights that stay or under dynamic VRAM.

python check_dynamic.py COMFYUI FOLDER plain|dynamic

Prints a JSON line for each scene: what was learnt, what became of MODEL, CLIP and VAE, and what ComfyUI holds afterwards.
`tiny_pack/pretend.py` and `tiny_pack/paging.py` stand in for a GPU, below ComfyUI's own patchers, which are the real ones.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from entering import enter_host, mount, tiny_module

ROOM = 2**40
QUICK = {
    "prompts": ("a cat", "a dog"), "steps": 3, "accumulation": 1, "batch_size": 1, "width": 64, "height": 64,
    "sampler": "euler", "scheduler": "simple", "denoising_steps": 3, "stop_window": (1, 2), "gradient_steps": 2,
    "evaluate_every": 2, "evaluation_images": 2, "learning_rate": 3e-3, "scale": 1.0, "threshold": 10.0, "prior_weight": 0.1,
    "lora_rank": 4, "sweep": False, "checkpoint_every": 0, "tracker": "none",
}  # fmt: skip


class Watch:
    """Looks on: whether the host's switch is on at each prediction, and which networks are trained on."""

    def __init__(self, networks: Any, scorers: Sequence[Any]) -> None:
        import comfy.model_management as model_management

        self.host = model_management
        self.given = {"MODEL": networks[0].model, "CLIP": networks[1].patcher.model, "VAE": networks[2].patcher.model}
        self.known = [
            id(one) for one in (*self.given.values(), *(patcher.model for one in scorers for patcher in one.patchers))
        ]
        self.predictions, self.interrupt_at = 0, -1
        self.switched: set[bool | None] = set()
        self.copies: list[weakref.ref[Any]] = []

    def on_prediction(self) -> None:
        self.predictions += 1
        self.switched.add(getattr(self.host, "in_training", None))
        if self.predictions == self.interrupt_at:
            self.host.interrupt_current_processing()

    def on_generator(self, generator: Any) -> None:
        used = {"MODEL": generator.patcher.model, "VAE": generator.vae.first_stage_model}
        self.copies += [weakref.ref(one) for kind, one in used.items() if one is not self.given[kind]]

    def found(self) -> dict[str, Any]:
        loaded = list(self.host.current_loaded_models)
        strangers = [one for one in loaded if one.model is None or id(one.model.model) not in self.known]
        gc.collect()
        return {
            "in training": [list(self.switched), getattr(self.host, "in_training", None)],
            "copies": len(self.copies),
            "copies alive": sum(one() is not None for one in self.copies),
            "strangers": len(strangers),
        }


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """While it lasts, the watch hears of each prediction and of each generator."""
    import comfy.model_base
    from sd_imagereward.comfyui_nodes.refl.generator import ComfyGenerator

    make, predict = ComfyGenerator.__init__, comfy.model_base.BaseModel.apply_model

    def making(generator: Any, *args: Any, **keywords: Any) -> None:
        make(generator, *args, **keywords)
        watch.on_generator(generator)

    def predicting(model: Any, *args: Any, **keywords: Any) -> Any:
        watch.on_prediction()
        return predict(model, *args, **keywords)

    ComfyGenerator.__init__, comfy.model_base.BaseModel.apply_model = making, predicting
    try:
        yield
    finally:
        ComfyGenerator.__init__, comfy.model_base.BaseModel.apply_model = make, predict


def train(networks: Any, reward: Any, rescue: Path, watch: Watch) -> dict[str, Any]:
    from comfyui_scenes import digest
    from sd_imagereward.comfyui_nodes.refl.training import Job
    from sd_imagereward.comfyui_nodes.refl.training import train as run
    from sd_imagereward.core.refl import ReflConfig

    result = run(Job(*networks, reward, (), None, ReflConfig(**QUICK), None), rescue)
    numbers = [[one[key] for key in ("loss", "reward", "gradient_norm")] for one in result.records]
    return {
        "numbers": numbers,
        "lora": digest(dict(result.lora.named_parameters())),
        "pictures": digest({"": result.after}),
    }


def improve(networks: Any, reward: Any, rescue: Path, watch: Watch) -> dict[str, Any]:
    import torch
    from comfyui_scenes import digest
    from sd_imagereward.comfyui_nodes.refl.noise import Task, optimise
    from sd_imagereward.core.refl import Sampling
    from sd_imagereward.core.refl.reno import Settings

    sampling = Sampling(width=64, height=64, steps=2, sampler="euler", scheduler="simple")
    samples = torch.zeros(1, networks[0].get_model_object("latent_format").latent_channels, 8, 8)
    task = Task(*networks, reward, None, ["a cat"], samples, sampling, 1)
    start, _, found = optimise(task, Settings(iterations=3))
    return {"numbers": found.rewards.tolist(), "start": digest({"": start})}


def interrupted(networks: Any, reward: Any, rescue: Path, watch: Watch) -> dict[str, Any]:
    import comfy.model_management as model_management
    from comfyui_scenes import digest
    from safetensors.torch import load_file

    watch.interrupt_at = 15
    try:
        train(networks, reward, rescue, watch)
    except model_management.InterruptProcessingException:
        return {"rescued": digest(load_file(rescue)), "predictions": watch.predictions}
    return {}


def twice(networks: Any, reward: Any, rescue: Path, watch: Watch) -> dict[str, Any]:
    first, second = (train(networks, reward, rescue, watch) for _ in range(2))
    return {**first, "again": first == second}


def with_a_lora(networks: Any) -> Any:
    """A patch that is merged into one weight."""
    import comfy.utils
    import torch

    model = networks[0].clone()
    first = next(name for name, weight in model.model.diffusion_model.named_parameters() if weight.ndim == 2)
    key = f"diffusion_model.{first}"
    weight = comfy.utils.get_attr(model.model, key)
    assert model.add_patches({key: ("diff", (torch.full(weight.shape, 0.01),))})
    return (model, *networks[1:])


def scenes() -> dict[str, tuple[str, str, str, Callable[..., Any]]]:
    """Kind of model, type of its file, room, what is done."""
    return {
        "room for all": ("sd1", "float32", "all", train),
        "room for a seventh": ("sd1", "float32", "seventh", train),
        "half file": ("sd1", "float16", "all", train),
        "half file, room for a seventh": ("sd1", "float16", "seventh", train),
        "lora": ("sd1", "float32", "seventh", train),
        "interrupt": ("sd1", "float32", "seventh", interrupted),
        "two runs": ("sd1", "float32", "seventh", twice),
        "sdxl": ("sdxl", "float32", "seventh", train),
        "flux": ("flux", "float32", "seventh", train),
        "noise": ("sd1", "float32", "seventh", improve),
        "noise, flux": ("flux", "float16", "all", improve),
    }


def check(name: str, folder: Path, reward: Any, held_out: Any) -> dict[str, Any]:
    import comfy.model_management as model_management
    import torch
    from comfyui_scenes import bits, digest, draw

    files, paging = tiny_module("files"), tiny_module("paging")
    kind, dtype, room, act = scenes()[name]
    model_management.unload_all_models()
    paging.room = ROOM
    networks = files.load(files.write(folder, 0, kind, getattr(torch, dtype)), kind)
    if name == "lora":
        networks = with_a_lora(networks)
    if room == "seventh":
        paging.room = networks[0].model_size() // 7
    before, picture, watch = bits(networks), digest({"": draw(networks)}), Watch(networks, [reward, held_out])
    left = paging.counts["left"]
    with watching(watch), torch.inference_mode():  # as in a node
        learnt = act(networks, reward, folder / "rescued.safetensors", watch)
    found = {"scene": name, "learnt": learnt, "picture": picture, **watch.found()}
    found["pages left"] = paging.counts["left"] - left
    found["draws the same"] = digest({"": draw(networks)}) == picture
    found["untouched"] = bits(networks) == before
    return found


def main(folder: Path, way: str) -> None:
    os.environ |= {"TINY_GPU_BYTES": str(ROOM), "TINY_GPU_STATE": "DYNAMIC" if way == "dynamic" else "NORMAL_VRAM"}
    tiny_module("pretend").install()
    import checkpoints
    import torch
    from sd_imagereward.comfyui_nodes.hosting import host, scoring_device
    from sd_imagereward.core.scorers.loading import load_scorer

    reward = host(load_scorer(checkpoints.write_imagereward(folder), device="cpu"), scoring_device("auto"))
    held_out = host(
        load_scorer("technical", device="cpu"), torch.device("cpu")
    )  # what the run takes where none is given
    for name in scenes():
        print(json.dumps(check(name, folder, reward, held_out)), flush=True)


if __name__ == "__main__":
    comfyui, place, asked = sys.argv[1:]
    enter_host(comfyui)
    mount()
    main(Path(place), asked)
