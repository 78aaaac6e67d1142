from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import comfy.model_management as model_management
import folder_paths
import torch

from . import files, models, pretend


class TinyCheckpoint:
    CATEGORY, FUNCTION = "tiny", "make"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        again = ("BOOLEAN", {"default": True})
        return {
            "required": {"seed": ("INT", {"default": 0})},
            "optional": {"kind": (list(models.KINDS), {}), "again": again},
        }

    def make(self, seed, kind="sd1", again=True):
        """Under dynamic VRAM out of files; not `again`: as loaders that ComfyUI cannot call once more."""
        if pretend.is_dynamic():
            networks = files.load(files.write(Path(folder_paths.get_temp_directory()), seed, kind), kind)
            if not again:
                networks[0].cached_patcher_init = None
            return networks
        return models.make_model(seed, kind), models.make_clip(seed), models.make_vae(seed, kind)


class TinyImages:
    """Random pictures; `unequal` makes a list of them, each wider than the one before."""

    CATEGORY, FUNCTION = "tiny", "make"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        number = ("INT", {"default": 4, "min": 0, "max": 10000})
        return {
            "required": {
                "count": number,
                "size": number,
                "seed": number,
                "channels": number,
                "unequal": ("BOOLEAN", {"default": False}),
            }
        }

    def make(self, count, size, seed, channels=3, unequal=False):
        generator = torch.Generator().manual_seed(seed)
        shape = (count, size, size, channels) if channels else (count, size, size)
        images = torch.rand(*shape, generator=generator)
        if not unequal:
            return ([images],)
        return ([image[None].repeat(1, 1, i + 1, 1) for i, image in enumerate(images)],)


class TinyTexts:
    CATEGORY, FUNCTION = "tiny", "make"
    RETURN_TYPES = ("STRING",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        return {"required": {"lines": ("STRING", {"multiline": True})}}

    def make(self, lines):
        return (lines.split("\n"),)


class TinyAnything:
    """A list that may be connected to any input: a JSON value a line, NaN and Infinity among them."""

    CATEGORY, FUNCTION = "tiny", "make"
    RETURN_TYPES = ("*",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        return {"required": {"lines": ("STRING", {"multiline": True})}}

    def make(self, lines):
        return ([json.loads(line) for line in lines.split("\n")],)


class TinySlow:
    """The reward model, slowed down for good: each layer takes `seconds` an image."""

    CATEGORY, FUNCTION = "tiny", "make"
    RETURN_TYPES = ("REWARD_MODEL",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        return {"required": {"reward_model": ("REWARD_MODEL",), "seconds": ("FLOAT", {"default": 0.01, "step": 0.001})}}

    def make(self, reward_model, seconds):
        def wait(_layer, given, _output):
            time.sleep(seconds * len(given[0]))

        for layer in reward_model.scorer.network.visual_encoder.modules():
            if not list(layer.children()):
                layer.register_forward_hook(wait)
        return (reward_model,)


class TinyNan:
    """Scores of images that could not be scored."""

    CATEGORY, FUNCTION = "tiny", "make"
    RETURN_TYPES = ("FLOAT",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        return {"required": {"image": ("IMAGE",)}}

    def make(self, image):
        return ([float("nan")] * len(image),)


class TinySee:
    """Shows what arrives: type, shape and numbers, as text in the history."""

    CATEGORY, FUNCTION, OUTPUT_NODE, INPUT_IS_LIST = "tiny", "see", True, True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        return {"required": {"value": ("*", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):  # noqa: N802, the host's name
        return True

    def see(self, value):
        return {"ui": {"seen": [describe(one) for one in value]}}


class TinyTrouble:
    """A MODEL that runs out of memory at its n-th prediction."""

    CATEGORY, FUNCTION = "tiny", "make"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        return {"required": {"model": ("MODEL",), "after": ("INT", {"default": 1, "max": 10000})}}

    def make(self, model, after):
        left = [after]

        def predict(apply_model, given):
            left[0] -= 1
            if left[0] < 0:
                raise model_management.OOM_EXCEPTION("CUDA out of memory. Tried to allocate 2.00 GiB")
            return apply_model(given["input"], given["timestep"], **given["c"])

        troubled = model.clone()
        troubled.set_model_unet_function_wrapper(predict)
        return (troubled,)


def describe(one):
    if isinstance(one, torch.Tensor):
        return {"shape": list(one.shape), "mean": float(one.float().mean()), "bits": digest([one])}
    network = network_of(one)
    if network is not None:
        model_management.unload_all_models()  # LoRAs that ComfyUI has merged for a sampler are taken out again
        return {"bits": digest([*network.parameters(), *network.buffers()])}
    if isinstance(one, dict):
        return {"shape": list(one["samples"].shape), "batch_index": one.get("batch_index")}
    if isinstance(one, (int, float, str, bool)):
        return one
    if hasattr(one, "total"):
        return {"scores": list(one.total)}
    return type(one).__name__


def network_of(one):
    """The network of a MODEL, CLIP or VAE."""
    if hasattr(one, "first_stage_model"):
        return one.first_stage_model
    patcher = getattr(one, "patcher", one)
    return patcher.model if hasattr(patcher, "model_options") else None


def digest(tensors):
    """Equal for equal bits, shapes and types."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


# Without literal names: ComfyUI-Manager lists every name that it reads in such a dictionary, in a pack's tests too.
NODES = (TinyTrouble, TinyCheckpoint, TinyImages, TinyTexts, TinyNan, TinySee, TinyAnything, TinySlow)
NODE_CLASS_MAPPINGS = {one.__name__: one for one in NODES}
