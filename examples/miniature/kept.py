"""Networks of one seed, small enough to be kept in the tests: whole numbers of 8 bits with a scale for each row.

    python -m sd_imagereward.examples.miniature.kept miniature/seed-0 tests/data/miniature

`unpack` makes files of it that every command reads.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...core.weights.read import read_checkpoint

# Weights, and what must lie beside them.
FILES = {
    "model/unet/diffusion_pytorch_model.safetensors": ("config.json",),
    "model/vae/diffusion_pytorch_model.safetensors": ("config.json",),
    "model/text_encoder/model.safetensors": ("config.json",),
    "model/scheduler/": ("scheduler_config.json",),
    "model/": ("model_index.json",),
    "reward/ImageReward.safetensors": ("vocab.txt",),
    "clip/model.safetensors": ("config.json", "vocab.json", "merges.txt"),
}
Convert = Callable[[dict[str, Tensor]], dict[str, Tensor]]
SCALE = ".scale"  # of a packed tensor's rows, beside it


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8 with a float32 scale a row; everything else as it is, in float16."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            packed[name] = tensor.half() if tensor.is_floating_point() else tensor
            continue
        scale = tensor.float().flatten(1).abs().amax(1).clamp(min=1e-12) / 127
        packed[name] = (tensor.float() / _as_column(scale, tensor)).round().to(torch.int8)
        packed[name + SCALE] = scale
    return packed


def unpack_tensors(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What was packed, in float32."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in packed.items():
        if name + SCALE in packed:
            tensors[name] = tensor.float() * _as_column(packed[name + SCALE], tensor)
        elif not name.endswith(SCALE):
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors


def _as_column(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (tensor.ndim - 1))


def keep(seed_folder: Path, folder: Path) -> None:
    """From the folder of a seed into `folder`; its captions' split goes along by the seed."""
    _convert(seed_folder, folder, pack)
    seed = int(seed_folder.resolve().name.removeprefix("seed-"))
    (folder / "seed.json").write_text(json.dumps({"seed": seed}), encoding="utf-8")


def unpack(folder: Path, target: Path) -> int:
    """Networks that were kept, as files for every command. Returns the seed that they were trained with."""
    _convert(folder, target, unpack_tensors)
    from .networks import clip_tokenizer  # needs transformers, as the model itself does

    clip_tokenizer()[0].save_pretrained(target / "model" / "tokenizer")
    return int(json.loads((folder / "seed.json").read_text(encoding="utf-8"))["seed"])


def _convert(source: Path, target: Path, convert: Convert) -> None:
    for name, beside in FILES.items():
        parent = source / name if name.endswith("/") else (source / name).parent
        made = target / parent.relative_to(source)
        made.mkdir(parents=True, exist_ok=True)
        for file in beside:
            _copy(parent / file, made / file)
        if name.endswith("/"):
            continue
        checkpoint = read_checkpoint(source / name)
        tensors = {each: stored.read() for each, stored in checkpoint.tensors.items()}
        save_file(convert(tensors), target / name, metadata=dict(checkpoint.metadata))


def _copy(source: Path, target: Path) -> None:
    """A file as it is; of a configuration all but where it was loaded from, which is a place on one machine."""
    if source.name != "config.json":
        shutil.copyfile(source, target)
        return
    values = json.loads(source.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    target.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]))
