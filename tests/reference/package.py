"""Runs the `image-reward` package, ours to be compared with, on a checkpoint of any size.

Needs an environment of its own (Python 3.11, versions that are known to work together):

    pip install torch==2.13.0 transformers==4.55.4 "tokenizers<0.22" accelerate datasets diffusers fairscale==0.4.13 \
        "setuptools<70" ftfy regex
    pip install --no-deps image-reward==1.5 timm==0.6.13 torchvision==0.28.0 openai-clip==1.0.1

Newer transformers and setuptools fail at import, and torchvision is there without its compiled operators.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

# timm and the package import torchvision, whose import registers fake kernels of two compiled operators: a torchvision
# without its compiled library (no build of it matches every torch) is content with their schemas.
_SCHEMAS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # fmt: skip
_libraries: list[Any] = []  # a torch.library.Library takes its schemas along when it is collected

VERSIONS_OF = (
    "image-reward",
    "torch",
    "torchvision",
    "transformers",
    "tokenizers",
    "timm",
    "Pillow",
    "numpy",
    "imscore",
)


def declare_torchvision_operators() -> None:
    if _libraries or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)


def versions() -> dict[str, str]:
    """What made a number: the versions of Python and of every package that takes part and is installed."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def bert_config(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """BLIP's med_config.json with the sizes of this checkpoint; at real size it is that file's content."""
    vocabulary, width = tensors["blip.text_encoder.embeddings.word_embeddings.weight"].shape
    return {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": tensors["blip.text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": tensors["blip.text_encoder.embeddings.position_embeddings.weight"].shape[0],
        "model_type": "bert",
        "num_attention_heads": width // 64,
        "num_hidden_layers": _count(tensors, "blip.text_encoder.encoder.layer."),
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
        "encoder_width": 768,  # overwritten by the package with the vision width
        "add_cross_attention": True,
    }


def load_reference(checkpoint: Path, *, device: str = "cpu") -> Any:
    """The package's `ImageReward` module with the weights of `checkpoint` and the `vocab.txt` beside it."""
    declare_torchvision_operators()
    package = importlib.import_module("ImageReward")
    tensors = torch.load(checkpoint, map_location="cpu", weights_only=True)
    with _offline_folder(checkpoint.parent / "vocab.txt") as folder:
        config = folder / "med_config.json"
        config.write_text(json.dumps(bert_config(tensors)))
        with _sizes(tensors):
            model = package.load(str(checkpoint), device=device, med_config=str(config))
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if missing or unexpected:
        raise RuntimeError(f"the reference disagrees with {checkpoint}: missing {missing}, unexpected {unexpected}")
    return model


def load_imscore(checkpoint: Path, *, device: str = "cpu") -> Any:
    """`imscore`'s ImageReward with the same weights; real size only, as that package fixes it."""
    declare_torchvision_operators()
    package = importlib.import_module("imscore.imreward.model")
    tensors = torch.load(checkpoint, map_location="cpu", weights_only=True)
    with _offline_folder(checkpoint.parent / "vocab.txt"):
        model = package.ImageReward()
    model.load_state_dict(tensors, strict=False)
    return model.eval().to(device)


def tokenizer(vocabulary: Path) -> Any:
    """The slow `BertTokenizer` as the package sets it up, [DEC] and [ENC] added."""
    from transformers import BertTokenizer

    made = BertTokenizer(str(vocabulary))
    made.add_special_tokens({"bos_token": "[DEC]"})
    made.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    return made


def _count(tensors: dict[str, torch.Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)})


@contextlib.contextmanager
def _offline_folder(vocabulary: Path) -> Iterator[Path]:
    """A working directory with a folder `bert-base-uncased` in it, which the packages take for the Hub's."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bert-base-uncased").mkdir()
        shutil.copy(vocabulary, folder / "bert-base-uncased" / "vocab.txt")
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


@contextlib.contextmanager
def _sizes(tensors: dict[str, torch.Tensor]) -> Iterator[None]:
    """The package fixes ViT-L/16 and a head of 768 inputs; while it builds, let the checkpoint say the sizes."""
    blip = importlib.import_module("ImageReward.models.BLIP.blip_pretrain")
    vit = importlib.import_module("ImageReward.models.BLIP.vit")
    reward = importlib.import_module("ImageReward.ImageReward")
    create_vit, head = blip.create_vit, reward.MLP

    def create_vit_of_size(*_: Any) -> tuple[Any, int]:
        width, _channels, patch, _ = tensors["blip.visual_encoder.patch_embed.proj.weight"].shape
        depth = _count(tensors, "blip.visual_encoder.blocks.")
        made = vit.VisionTransformer(
            img_size=224, patch_size=patch, embed_dim=width, depth=depth, num_heads=width // 64, drop_path_rate=0.1
        )
        return made, width

    blip.create_vit = create_vit_of_size
    reward.MLP = lambda _: head(tensors["mlp.layers.0.weight"].shape[1])
    try:
        yield
    finally:
        blip.create_vit, reward.MLP = create_vit, head
