"""A tiny scorer's checkpoint in each layout of a file that is read."""

from __future__ import annotations

import warnings
from pathlib import Path

import checkpoints
import scorer_checkpoints
import torch
from torch import Tensor, nn

LAYOUTS = ("safetensors", "pt", "legacy", "torchscript")


def write_layout(layout: str, folder: Path, **sizes: int) -> Path:
    """An ImageReward of these sizes, or as TorchScript a CLIP, with its tokenizer beside."""
    if layout == "torchscript":
        scorer_checkpoints.write_clip_tokenizer(folder)
        return write_torchscript(scorer_checkpoints.clip_state_dict(0, layout="open_clip"), folder / "ViT-L-14.pt")
    path = checkpoints.write_imagereward(folder, format="safetensors" if layout == "safetensors" else "pt", **sizes)
    if layout == "legacy":
        torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    return path


def write_torchscript(tensors: dict[str, Tensor], path: Path) -> Path:
    """These tensors as the buffers of a tree of modules, saved by torch.jit."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        module.register_buffer(last, tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer torch's, of the whole format
        torch.jit.script(root).save(str(path))
    return path
