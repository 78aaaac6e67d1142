"""Random checkpoints of the other scorers in their real layouts, at any size; the numbers come as in `checkpoints`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from checkpoints import (
    ADDED_TOKENS,
    HEAD_WIDTHS,
    VOCABULARY,
    _linear,
    _norm,
    _Row,
    _tensor,
    _text_layout,
    _vision_layout,
    vocabulary,
)
from torch import Tensor

BLIP_LARGE = {"vision_width": 1024, "vision_depth": 24, "text_width": 768, "text_depth": 12, "vocab_size": 30524}
BLIP_LARGE |= {"positions": 512}
VIT_L14 = {"vision_width": 1024, "vision_depth": 24, "patch": 14, "text_width": 768, "text_depth": 12}
VIT_L14 |= {"embedding": 768, "vocab_size": 49408}
VIT_H14 = {"vision_width": 1280, "vision_depth": 32, "patch": 14, "text_width": 1024, "text_depth": 24}
VIT_H14 |= {"embedding": 1024, "vocab_size": 49408}
TINY_H = {"vision_width": 160}  # two heads of 80, as ViT-H's are

_WORDS = ("painting", "ocean", "clouds", "birds", "photo", "cat", "dog", "red", "castle", "with", "and", "the", "of")


# -- tokenizer -------------------------------------------------------------------------------------------------------


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary in small: the 256 bytes, the same at a word's end, merges of a few words, start and end."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    merges: dict[tuple[str, str], None] = {}
    for word in _WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = None
            pieces[:2] = ["".join(pieces[:2])]
    tokens = [*characters, *(c + "</w>" for c in characters), *dict.fromkeys("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, list(merges)


def write_clip_tokenizer(folder: Path) -> None:
    ids, merges = clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")


# -- CLIP ------------------------------------------------------------------------------------------------------------


def clip_state_dict(
    seed: int = 0,
    *,
    layout: str = "open_clip",
    vision_width: int = 64,
    vision_depth: int = 2,
    patch: int = 32,
    image_size: int = 224,
    text_width: int = 64,
    text_depth: int = 2,
    embedding: int = 32,
    vocab_size: int | None = None,
    positions: int = 77,
) -> dict[str, Tensor]:
    """A CLIP with the same numbers in the layout of open_clip and OpenAI ("open_clip") or of transformers ("hub")."""
    words = len(clip_vocabulary()[0]) if vocab_size is None else vocab_size
    tokens = (image_size // patch) ** 2 + 1
    rows = [
        *_clip_vision(vision_width, vision_depth, patch, tokens, embedding),
        *_clip_text(text_width, text_depth, words, positions, embedding),
    ]
    tensors = {name: _tensor(seed, name, shape, centre, spread) for name, shape, centre, spread in rows}
    tensors["logit_scale"] = torch.tensor(4.6052)
    return tensors if layout == "open_clip" else to_hub_layout(tensors)


def _clip_vision(width: int, depth: int, patch: int, tokens: int, embedding: int) -> Iterator[_Row]:
    yield "visual.class_embedding", (width,), 0.0, 0.5
    yield "visual.positional_embedding", (tokens, width), 0.0, 0.5
    yield "visual.proj", (width, embedding), 0.0, width**-0.5
    yield "visual.conv1.weight", (width, 3, patch, patch), 0.0, 0.5 * (3 * patch * patch) ** -0.5
    yield from _norm("visual.ln_pre", width)
    yield from _clip_blocks("visual.transformer.resblocks", width, depth)
    yield from _norm("visual.ln_post", width)


def _clip_text(width: int, depth: int, words: int, positions: int, embedding: int) -> Iterator[_Row]:
    yield "positional_embedding", (positions, width), 0.0, 0.25
    yield "text_projection", (width, embedding), 0.0, width**-0.5
    yield "token_embedding.weight", (words, width), 0.0, 0.5
    yield from _clip_blocks("transformer.resblocks", width, depth)
    yield from _norm("ln_final", width)


def _clip_blocks(name: str, width: int, depth: int) -> Iterator[_Row]:
    for i in range(depth):
        block = f"{name}.{i}"
        yield from _norm(f"{block}.ln_1", width)
        yield f"{block}.attn.in_proj_weight", (3 * width, width), 0.0, 1.4 * width**-0.5
        yield f"{block}.attn.in_proj_bias", (3 * width,), 0.0, 0.1
        yield from _linear(f"{block}.attn.out_proj", width, width)
        yield from _norm(f"{block}.ln_2", width)
        yield from _linear(f"{block}.mlp.c_fc", width, 4 * width)
        yield from _linear(f"{block}.mlp.c_proj", 4 * width, width)


_HUB_NAMES = (
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.proj", "visual_projection.weight"),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("ln_final.", "text_model.final_layer_norm."),
    ("text_projection", "text_projection.weight"),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)


def to_hub_layout(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's names and shapes -> those of transformers' CLIPModel."""
    hub: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in ("visual.proj", "text_projection"):
            tensor = tensor.T.contiguous()
        for theirs, ours in _HUB_NAMES:
            if (
                name == theirs
                or (name.startswith(theirs) and theirs.endswith("."))
                or (theirs[0] == "." and theirs in name)
            ):
                name = name.replace(theirs, ours, 1)
        if ".attn.in_proj_" in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                hub[name.replace("attn.in_proj_", f"self_attn.{part}_proj.")] = piece.clone()
        else:
            hub[name] = tensor
    return hub


def write_clip(
    folder: Path,
    *,
    name: str = "model.safetensors",
    layout: str = "hub",
    seed: int = 0,
    wrap: str | None = None,
    **sizes: int,
) -> Path:
    """A CLIP checkpoint with its tokenizer beside it; a `.pt` may be wrapped, as HPS's is in "state_dict"."""
    folder.mkdir(parents=True, exist_ok=True)
    write_clip_tokenizer(folder)
    tensors = clip_state_dict(seed, layout=layout, **sizes)
    if layout == "hub":
        (folder / "config.json").write_text(json.dumps(hub_config("quick_gelu")), encoding="utf-8")
    return _save(tensors, folder / name, wrap)


def hub_config(activation: str) -> dict[str, object]:
    """What transformers' config.json says of the activation."""
    return {"model_type": "clip", **{f"{tower}_config": {"hidden_act": activation} for tower in ("text", "vision")}}


def write_aesthetic(
    folder: Path, *, name: str = "sac+logos+ava1-l14-linearMSE.pth", seed: int = 0, width: int = 32
) -> Path:
    """LAION's head."""
    folder.mkdir(parents=True, exist_ok=True)
    return _save(aesthetic_state_dict(seed, width), folder / name, None)


def aesthetic_state_dict(seed: int = 0, width: int = 32) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for place, inputs, outputs in zip((0, 2, 4, 6, 7), (width, *HEAD_WIDTHS[:-1]), HEAD_WIDTHS, strict=True):
        for name, shape, centre, spread in _linear(f"layers.{place}", inputs, outputs, gain=1.5):
            tensors[name] = _tensor(seed, name, shape, centre, spread)
    return tensors


# -- BLIP ------------------------------------------------------------------------------------------------------------


def blip_state_dict(
    seed: int = 0,
    *,
    vision_width: int = 64,
    vision_depth: int = 2,
    patch: int = 16,
    image_size: int = 224,
    text_width: int = 64,
    text_depth: int = 2,
    vocab_size: int = len(VOCABULARY) + ADDED_TOKENS,
    positions: int = 64,
) -> dict[str, Tensor]:
    """BLIP's pre-training checkpoint: what scoring reads, and a momentum encoder's first tensor as a sample of the rest."""
    tokens = (image_size // patch) ** 2 + 1
    rows = [
        *_vision_layout(vision_width, vision_depth, patch, tokens),
        *_text_layout(text_width, text_depth, vision_width, vocab_size, positions),
        *_linear("blip.vision_proj", vision_width, 256),
        *_linear("blip.text_proj", text_width, 256),
        ("blip.visual_encoder_m.cls_token", (1, 1, vision_width), 0.0, 0.5),
    ]
    return {name.removeprefix("blip."): _tensor(seed, name, *rest) for name, *rest in rows}


def write_blip(folder: Path, *, seed: int = 0, **sizes: int) -> Path:
    """`model_large.pth` (its state dict is under "model") and `vocab.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = vocabulary(sizes.get("vocab_size", len(VOCABULARY) + ADDED_TOKENS))
    (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return _save(blip_state_dict(seed, **sizes), folder / "model_large.pth", "model")


def _save(tensors: dict[str, Tensor], path: Path, wrap: str | None) -> Path:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        torch.save({wrap: tensors} if wrap else tensors, path)
    return path


# -- goldens ---------------------------------------------------------------------------------------------------------

GOLDEN_PROMPTS = (
    "a painting of an ocean with clouds and birds, day time, low depth field effect",
    "Café “naïve” ﬁsh &amp; chips,   8k!!!",
    "",
    "a very long prompt, " * 30,
)
GOLDEN_SIZES = ((300, 225), (331, 224), (224, 224), (640, 150))  # landscape or square: Pillows agree on their bytes


def write_golden_pictures(folder: Path) -> list[Path]:
    """Pictures of triangle waves, the same bytes everywhere."""
    import numpy as np
    from PIL import Image

    paths = []
    for number, (width, height) in enumerate(GOLDEN_SIZES):
        y, x = np.mgrid[:height, :width]
        waves = [(x * a + y * b) // 3 % 512 for a, b in ((2 + number, 1), (1, 3), (5, 2 + number))]
        pixels = np.stack([np.minimum(wave, 511 - wave) for wave in waves], axis=-1)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths


def write_golden_checkpoint(name: str, folder: Path) -> Path:
    """The small checkpoint of a scorer with the originals' full vocabularies; the tokenizers must be put beside it."""
    words = {"vocab_size": 49408}
    if name == "blip":
        return write_blip(folder, vocab_size=30524)
    if name == "clip":
        return write_clip(folder, name="ViT-L-14.pt", layout="open_clip", **words)
    if name == "aesthetic":
        write_clip(folder, name="ViT-L-14.pt", layout="open_clip", embedding=768, **words)
        return write_aesthetic(folder, width=768)
    if name == "pickscore":
        return write_clip(folder, name="PickScore_v1.safetensors", **TINY_H, **words)
    return write_clip(folder, name="HPS_v2.1_compressed.pt", layout="open_clip", wrap="state_dict", **TINY_H, **words)
