"""Run by the host's Python: one ReFL update with room for all networks, and again where they must take turns.

python check_turns.py COMFYUI FOLDER KIND...

Prints a JSON line for each kind: whether rewards and gradients were equal, what share of each network lay on the device when,
and whether the base was left alone. A network that ComfyUI takes off whole loses its numbers until it is loaded again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from entering import enter_host, mount, tiny_models, tiny_module

SIDE, STEPS, STOP = 64, 4, 2
MIB = 2**20


@contextmanager
def numbers_stay_on_the_device() -> Iterator[Callable[[], None]]:
    """Taking a network off its device fills it with NaN, loading puts the numbers back; yields what puts back all."""
    import comfy.model_management as model_management
    import torch

    kept: dict[Any, Any] = {}
    loaded = model_management.LoadedModel
    load, unload = loaded.model_load, loaded.model_unload

    def put_back(network: Any) -> None:
        for parameter in network.parameters():
            if parameter in kept:
                parameter.data = kept.pop(parameter)

    def loading(self: Any, *args: Any, **keywords: Any) -> Any:
        put_back(self.model.model)
        return load(self, *args, **keywords)

    def unloading(self: Any, *args: Any, **keywords: Any) -> bool:
        network, gone = self.model.model, unload(self, *args, **keywords)
        if gone:
            for parameter in network.parameters():
                kept[parameter] = parameter.data
                parameter.data = torch.full_like(parameter, torch.nan)
        return gone

    def put_back_all() -> None:
        for parameter in list(kept):
            parameter.data = kept.pop(parameter)

    loaded.model_load, loaded.model_unload = loading, unloading
    try:
        yield put_back_all
    finally:
        loaded.model_load, loaded.model_unload = load, unload
        put_back_all()


def shares(patchers: Any) -> list[float]:
    """Of each network, how much of it ComfyUI holds on its device."""
    import comfy.model_management as model_management

    loaded = model_management.loaded_models()
    return [one.loaded_size() / one.model_size() if one in loaded else 0.0 for one in patchers]


def one_update(networks: tuple[Any, ...], reward: Any, events: dict[str, list[float]]) -> tuple[Any, dict[str, Any]]:
    """(rewards, gradient of each LoRA parameter). `events`: the shares of model and reward when each of them is used."""
    import torch
    from sd_imagereward.comfyui_nodes.refl.generator import ComfyGenerator
    from sd_imagereward.core.refl import ReflConfig, Sampling
    from sd_imagereward.core.refl.randomness import SampleNoise
    from sd_imagereward.core.refl.tuning import LoraTuning
    from sd_imagereward.core.refl.update import rollout

    class Watched(ComfyGenerator):
        def decode(self, latents: Any) -> Any:
            events["scoring"] = shares([self.patcher, *reward.patchers])
            return super().decode(latents)

        def bring_network(self) -> None:
            super().bring_network()
            events["drawing"] = shares([self.patcher, *reward.patchers])

    model, clip, vae = networks
    generator = Watched(model, clip, vae, rewards=[reward])
    config = ReflConfig(
        prompts=("a cat",), lora_rank=2, gradient_steps=2, scale=1.0, threshold=9.0, prior_weight=0.1, dtype="float32"
    )
    tuning = LoraTuning.of(generator, config)
    generator.gradient_checkpointing(True)
    generator.precompute_embeddings(["a cat"])
    draws = torch.Generator().manual_seed(3)
    parameters = dict(tuning.parameters())
    for name in sorted(parameters):
        parameters[name].data = torch.randn(parameters[name].shape, generator=draws) * 0.05
    sampling = Sampling(width=SIDE, height=SIDE, steps=STEPS, sampler="euler", scheduler="simple")
    try:
        result = rollout(
            generator, reward.scorer, tuning, config, sampling, ["a cat"], SampleNoise.of_seeds([5]), STOP,
            lambda loss: loss.backward(),
        )  # fmt: skip
    finally:
        generator.close()
    return result.reward, {name: parameter.grad.clone() for name, parameter in parameters.items()}


def check(kind: str, reward: Any, pretend: Any) -> dict[str, Any]:
    import comfy.model_management as model_management
    import comfy.sd
    import comfy.utils
    import torch

    models = tiny_models()
    model = models.make_model(0, kind)
    first = next(name for name, weight in model.model.diffusion_model.named_parameters() if weight.ndim == 2)
    key = f"diffusion_model.{first}"  # a patched weight is another tensor whenever the model is loaded
    model.add_patches({key: ("diff", (torch.full_like(comfy.utils.get_attr(model.model, key), 0.01),))})
    networks = (model, models.make_clip(1), models.make_vae(2, kind))
    base = {name: weight.clone() for name, weight in model.model.state_dict().items()}
    scorers = [one for one in (networks[2].patcher, *reward.patchers) if one.load_device == model.load_device]
    sizes = [model.model_size(), sum(one.model_size() for one in scorers)]
    narrow = int(1.1 * max(sizes) + 0.1 * min(sizes))
    found: dict[str, Any] = {"kind": kind}
    updates = {}
    for way, room, smart in (("together", 4 * sum(sizes), True), ("in part", narrow, True), ("whole", narrow, False)):
        events: dict[str, list[float]] = {}
        pretend.capacity = model_management.minimum_inference_memory() + room
        model_management.DISABLE_SMART_MEMORY = not smart
        model_management.unload_all_models()
        with numbers_stay_on_the_device() as put_back:
            updates[way] = one_update(networks, reward, events)
            model_management.unload_all_models()
            put_back()
        found[way] = events
    rewards, gradients = updates["together"]
    found["norm"] = sum(float(one.norm()) for one in gradients.values())
    found["equal"] = all(
        torch.equal(rewards, others) and all(torch.equal(gradients[name], other[name]) for name in gradients)
        for others, other in updates.values()
    )
    found["untouched"] = all(torch.equal(weight, base[name]) for name, weight in model.model.state_dict().items())
    return found


def main(folder: Path, kinds: list[str]) -> None:
    pretend = tiny_module("pretend")
    os.environ["TINY_GPU_BYTES"] = str(1024 * MIB)
    pretend.install()
    import checkpoints
    from sd_imagereward.comfyui_nodes.hosting import host, scoring_device
    from sd_imagereward.comfyui_nodes.refl.memory import training_mode
    from sd_imagereward.core.scorers.loading import load_scorer

    reward = host(load_scorer(checkpoints.write_imagereward(folder), device="cpu"), scoring_device("auto"))
    with training_mode():
        for kind in kinds:
            print(json.dumps(check(kind, reward, pretend)), flush=True)


if __name__ == "__main__":
    comfyui, place, *asked = sys.argv[1:]
    enter_host(comfyui)
    mount()
    main(Path(place), asked)
