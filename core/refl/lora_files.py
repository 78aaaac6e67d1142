"""LoRA files with kohya's keys, which A1111, Forge, ComfyUI and diffusers all load unconverted, and the metadata they read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import ImageRewardError
from ..files.atomic import replacing
from ..files.console import counted
from ..training.outputs import OutputFile
from ..weights.read import read_checkpoint
from .families import Family
from .lora import Lora, LoraLayer, weight_of

PREFIX = "lora_unet_"


def key_of(layer: str) -> str:
    """The kohya key of a layer by its name (see `LoraLayers`), without its ending."""
    return PREFIX + layer.replace(".", "_")


def tensors_of(lora: Lora) -> dict[str, Tensor]:
    """What a LoRA file holds: down, up and alpha of each layer, float32 on the CPU."""
    tensors = {}
    for name, layer in lora.items():
        tensors[f"{key_of(name)}.lora_down.weight"] = layer.down.detach().float().cpu().contiguous()
        tensors[f"{key_of(name)}.lora_up.weight"] = layer.up.detach().float().cpu().contiguous()
        tensors[f"{key_of(name)}.alpha"] = torch.tensor(layer.alpha)
    return tensors


@dataclass(frozen=True)
class LoraRecord:
    """What is known of a LoRA beside its numbers."""

    name: str
    family: Family
    v_prediction: bool
    resolution: tuple[int, int]  # width and height it was trained at
    base_model: str
    reward: str
    steps: int
    learning_rate: float
    seed: int
    prompts: Sequence[str]
    evaluation_guidance: float | None = None  # of the pictures that it was judged by; None without a guard
    recommended_strength: float | None = None
    note: str = ""

    @property
    def at_which_guidance(self) -> str:
        """ " at guidance 7.5", "" where nothing was evaluated."""
        return "" if self.evaluation_guidance is None else f" at guidance {self.evaluation_guidance:g}"


def metadata_of(lora: Lora, record: LoraRecord) -> dict[str, str]:
    """The metadata of the file, without its hashes. Without `ss_base_model_version` A1111 takes any LoRA for an SD1 one."""
    base = record.family.base_of(record.v_prediction)
    width, height = record.resolution
    metadata = {
        "ss_base_model_version": base.kohya,
        "ss_v2": str(base.v2),
        "ss_sd_model_name": record.base_model,
        "ss_output_name": record.name,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(lora.rank),
        "ss_network_alpha": f"{lora.alpha:g}",
        "ss_resolution": f"({width}, {height})",
        "ss_learning_rate": f"{record.learning_rate:g}",
        "ss_max_train_steps": str(record.steps),
        "ss_steps": str(record.steps),
        "ss_seed": str(record.seed),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": base.modelspec,
        "modelspec.implementation": "diffusers",
        "modelspec.title": record.name,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S"),
        "modelspec.description": f"Tuned with reward feedback learning (ReFL) for {record.reward}, "
        f"{counted(record.steps, 'update')}",
        "refl_reward": record.reward,
        "refl_steps": str(record.steps),
        "refl_prompts_sha256": prompts_hash(record.prompts),
    }
    if not record.family.flow:  # ModelSpec has no word for flows
        metadata["modelspec.prediction_type"] = "v" if record.v_prediction else "epsilon"
    if record.evaluation_guidance is not None:
        metadata["refl_evaluation_guidance"] = f"{record.evaluation_guidance:g}"
    if record.recommended_strength is not None:
        metadata["refl_recommended_strength"] = f"{record.recommended_strength:.2f}"
        metadata["modelspec.usage_hint"] = (
            f"Recommended strength {record.recommended_strength:.2f}{record.at_which_guidance}"
        )
    if record.note:
        metadata["refl_note"] = record.note
    return metadata


def prompts_hash(prompts: Sequence[str]) -> str:
    """SHA-256 of the prompts, one per line, in their order."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()


def write_lora(lora: Lora, path: str | Path, record: LoraRecord) -> dict[str, str]:
    """Writes a LoRA as kohya's scripts do, whole or not at all.

    Args:
        lora: the trained LoRA.
        path: a .safetensors file; its folder is made.
        record: what the metadata says of the training.

    Returns:
        The file's metadata, hashes included.

    Raises:
        ImageRewardError: a tensor holds NaN or infinity.
    """
    path = Path(path)
    tensors = tensors_of(lora)
    broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ImageRewardError(
            f"{len(broken)} of {counted(len(tensors), 'tensor')} of the LoRA hold NaN or infinity "
            f"({broken[0]}): not written to {path}"
        )
    metadata = metadata_of(lora, record)
    metadata["sshs_model_hash"], metadata["sshs_legacy_hash"] = _hashes(save(tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(save(tensors, metadata))
    return metadata


def save_lora(lora: Lora, path: Path, record: LoraRecord) -> Path:
    """`write_lora`, under a numbered name beside `path` if another program holds that; returns where the file is.

    The name in the metadata is the file's. Raises OSError where no place will do.
    """
    return OutputFile(path).write(lambda path: write_lora(lora, path, replace(record, name=path.stem)))


@dataclass(frozen=True)
class LoraFile:
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_lora(path: str | Path) -> LoraFile:
    """A LoRA file, read into memory.

    Args:
        path: a .safetensors file.

    Returns:
        Its tensors by kohya's keys, and its metadata.

    Raises:
        UnknownCheckpoint: it is not a readable .safetensors file.
    """
    checkpoint = read_checkpoint(path)
    return LoraFile(checkpoint.read(), dict(checkpoint.metadata))


def lora_from_tensors(tensors: Mapping[str, Tensor], layers: Mapping[str, nn.Module]) -> Lora:
    """The LoRA of a file with kohya keys, to attach to `layers` (name in LoRA files -> module) and train on."""
    found: dict[str, LoraLayer] = {}
    unread = {key for key in tensors if not key.endswith(".alpha")}
    for name, module in layers.items():
        down, up = (tensors.get(f"{key_of(name)}.{part}.weight") for part in ("lora_down", "lora_up"))
        if down is None or up is None:
            continue
        layer = LoraLayer(module, *_rank_and_alpha(key_of(name), down, tensors.get(f"{key_of(name)}.alpha")))
        if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
            raise ImageRewardError(f"LoRA layer {key_of(name)} holds NaN or infinity: nothing can be learnt from there")
        if down.shape != layer.down.shape or up.shape != layer.up.shape:
            raise ImageRewardError(
                f"LoRA layer {key_of(name)} is {tuple(up.shape)} x {tuple(down.shape)}, but the model's layer needs "
                f"{tuple(layer.up.shape)} x {tuple(layer.down.shape)}: the LoRA was made for another model"
            )
        layer.down.data, layer.up.data = down.float().clone(), up.float().clone()
        found[name] = layer.to(weight_of(module).device)
        unread -= {f"{key_of(name)}.lora_down.weight", f"{key_of(name)}.lora_up.weight"}
    if not found or unread:
        raise ImageRewardError(
            f"{len(unread)} of the LoRA's {counted(len(tensors), 'tensor')} fit no layer of this model"
            f"{f' ({min(unread)})' if unread else ''}: give a LoRA with kohya keys ({PREFIX}...) for this kind of model"
        )
    first = next(iter(found.values()))
    return Lora(found, first.rank, first.alpha)


def _rank_and_alpha(key: str, down: Tensor, alpha: Tensor | None) -> tuple[int, float]:
    rank = down.shape[0] if down.ndim else 0
    if rank < 1 or not down.is_floating_point() or (alpha is not None and (alpha.numel() != 1 or alpha.is_complex())):
        shown = "none" if alpha is None else tuple(alpha.shape)
        raise ImageRewardError(
            f"LoRA layer {key} is damaged: down is {tuple(down.shape)} of {down.dtype}, alpha {shown}"
        )
    value = float(rank if alpha is None else alpha)
    if not math.isfinite(value):
        raise ImageRewardError(f"LoRA layer {key} is damaged: its alpha is {value}")
    return rank, value


def _hashes(file: bytes) -> tuple[str, str]:
    """kohya's and A1111's two hashes: SHA-256 of all tensor bytes, and the first 8 digits of that of 64 KiB from 1 MiB on."""
    header = int.from_bytes(file[:8], "little") + 8
    legacy = hashlib.sha256(file[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
    return hashlib.sha256(file[header:]).hexdigest(), legacy
