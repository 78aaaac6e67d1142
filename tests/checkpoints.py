"""Random checkpoints in the layout of ImageReward-v1.0, at any size, the same bits everywhere.

The published `ImageReward.pt` (THUDM/ImageReward) is a plain state dict of 625 tensors and 446,665,953 numbers.
`imagereward_state_dict(**REAL_SIZE)` has the same keys in the same order with the same shapes and dtypes, among them
the three groups that scoring never reads (`vision_proj`, `text_proj`, `position_ids`); smaller sizes differ in shapes
and in the number of layers alone. So a checkpoint of a megabyte takes every step of the 1.8 GB one.

The numbers come from the raw stream of numpy's PCG64, whose output is fixed for all versions, cut into 16-bit
uniforms; neither numpy's distributions nor torch's generator are involved, whose streams may change. Weights are
scaled so that attention is not uniform, LayerNorms do something, and the score depends on image and prompt alike.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HEAD_WIDTHS = (1024, 128, 64, 16, 1)  # of ImageReward's reward head, at every size
PROJECTION_WIDTH = 256  # BLIP's contrastive space, left over from pre-training
ADDED_TOKENS = 2  # BLIP appends [DEC] and [ENC] to BERT's vocabulary

REAL_SIZE: dict[str, int] = {
    "vision_width": 1024,
    "vision_depth": 24,
    "patch": 16,
    "image_size": 224,
    "text_width": 768,
    "text_depth": 12,
    "vocab_size": 30524,
    "positions": 512,
}

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CHARACTERS = "!\"#$%&'()*+,-./0123456789:;<=>?@[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~σςßıθж天空海鸟の한"
# fmt: off
_WORDS = (
    "painting", "ocean", "clouds", "birds", "day", "time", "low", "depth", "field", "effect", "photo", "portrait",
    "cat", "dog", "red", "blue", "green", "castle", "mountain", "river", "sunset", "night", "city", "street",
    "woman", "man", "child", "robot", "dragon", "forest", "with", "and", "under", "over", "the", "a", "of", "in",
    "on", "detailed", "realistic", "art", "style", "oil", "digital", "dec", "enc", "sep", "mask", "cls", "pad",
    "unk", "cafe", "naive", "istanbul",
)
# fmt: on
_SUFFIXES = ("ing", "ed", "er", "s", "ly", "tion", "ness", "able")

#: Lines of the tiny `vocab.txt`: special tokens, single characters, their continuations, a few words and endings.
VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            *_SPECIAL,
            *_CHARACTERS,
            *(f"##{c}" for c in _CHARACTERS if c.isalnum()),
            *_WORDS,
            *(f"##{s}" for s in _SUFFIXES),
        ]
    )
)


def vocabulary(vocab_size: int = len(VOCABULARY) + ADDED_TOKENS) -> list[str]:
    """The lines of `vocab.txt` for a checkpoint of `vocab_size` embeddings, padded with BERT's `[unusedN]`."""
    missing = vocab_size - ADDED_TOKENS - len(VOCABULARY)
    if missing < 0:
        raise ValueError(f"vocab_size must be at least {len(VOCABULARY) + ADDED_TOKENS}, got {vocab_size}")
    return [*VOCABULARY, *(f"[unused{n}]" for n in range(missing))]


def imagereward_state_dict(
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
    """A float32 state dict with ImageReward's keys (and int64 `position_ids`); heads are 64 wide at every size."""
    for what, width in (("vision_width", vision_width), ("text_width", text_width)):
        if width % 64:
            raise ValueError(f"{what} must be a multiple of the head width 64, got {width}")
    tokens = (image_size // patch) ** 2 + 1
    layout = [
        *_vision_layout(vision_width, vision_depth, patch, tokens),
        *_text_layout(text_width, text_depth, vision_width, vocab_size, positions),
        *_linear("blip.vision_proj", vision_width, PROJECTION_WIDTH),
        *_linear("blip.text_proj", text_width, PROJECTION_WIDTH),
        *_head_layout(text_width),
    ]
    return {name: _tensor(seed, name, shape, centre, spread) for name, shape, centre, spread in layout}


def write_imagereward(
    folder: Path | str, *, seed: int = 0, dtype: torch.dtype = torch.float32, format: str = "pt", **sizes: int
) -> Path:
    """Write `ImageReward.pt` (or `.safetensors`) and `vocab.txt` into `folder`; return the checkpoint's path.

    `dtype=torch.float16` gives the half-size variant. `sizes` are those of `imagereward_state_dict`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = imagereward_state_dict(seed, **sizes)
    if dtype != torch.float32:
        tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    lines = vocabulary(sizes.get("vocab_size", len(VOCABULARY) + ADDED_TOKENS))
    (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path = folder / f"ImageReward.{format}"
    if format == "pt":
        torch.save(tensors, path)
    elif format == "safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        raise ValueError(f"format must be 'pt' or 'safetensors', got {format!r}")
    return path


# A row of the layout: name, shape, centre and standard deviation of the uniform numbers in it.
_Row = tuple[str, tuple[int, ...], float, float]


def _linear(name: str, inputs: int, outputs: int, gain: float = 1.0) -> Iterator[_Row]:
    yield f"{name}.weight", (outputs, inputs), 0.0, gain / math.sqrt(inputs)
    yield f"{name}.bias", (outputs,), 0.0, 0.1


def _norm(name: str, width: int) -> Iterator[_Row]:
    yield f"{name}.weight", (width,), 1.0, 0.25
    yield f"{name}.bias", (width,), 0.0, 0.1


def _vision_layout(width: int, depth: int, patch: int, tokens: int) -> Iterator[_Row]:
    name = "blip.visual_encoder"
    yield f"{name}.cls_token", (1, 1, width), 0.0, 0.5
    yield f"{name}.pos_embed", (1, tokens, width), 0.0, 0.5
    # Neighbouring pixels are alike, so a patch sums up to far more than independent inputs would: hence the small gain.
    yield f"{name}.patch_embed.proj.weight", (width, 3, patch, patch), 0.0, 0.5 / math.sqrt(3 * patch * patch)
    yield f"{name}.patch_embed.proj.bias", (width,), 0.0, 0.1
    for i in range(depth):
        block = f"{name}.blocks.{i}"
        yield from _norm(f"{block}.norm1", width)
        yield from _linear(f"{block}.attn.qkv", width, 3 * width, gain=1.4)
        yield from _linear(f"{block}.attn.proj", width, width)
        yield from _norm(f"{block}.norm2", width)
        yield from _linear(f"{block}.mlp.fc1", width, 4 * width)
        yield from _linear(f"{block}.mlp.fc2", 4 * width, width)
    yield from _norm(f"{name}.norm", width)


def _text_layout(width: int, depth: int, vision_width: int, vocab_size: int, positions: int) -> Iterator[_Row]:
    name = "blip.text_encoder"
    yield f"{name}.embeddings.position_ids", (1, positions), 0.0, 0.0  # a buffer: before the modules' weights
    yield f"{name}.embeddings.word_embeddings.weight", (vocab_size, width), 0.0, 0.5
    yield f"{name}.embeddings.position_embeddings.weight", (positions, width), 0.0, 0.25
    yield from _norm(f"{name}.embeddings.LayerNorm", width)
    for i in range(depth):
        layer = f"{name}.encoder.layer.{i}"
        # Cross-attention adds the same picture to every token: were it as loud as self-attention, twelve layers of it
        # would drown the prompt.
        for attention, key_width, gain in (("attention", width, 2.1), ("crossattention", vision_width, 0.42)):
            yield from _linear(f"{layer}.{attention}.self.query", width, width, gain=1.4)
            yield from _linear(f"{layer}.{attention}.self.key", key_width, width, gain=1.4)
            yield from _linear(f"{layer}.{attention}.self.value", key_width, width)
            yield from _linear(f"{layer}.{attention}.output.dense", width, width, gain=gain)
            yield from _norm(f"{layer}.{attention}.output.LayerNorm", width)
        yield from _linear(f"{layer}.intermediate.dense", width, 4 * width)
        yield from _linear(f"{layer}.output.dense", 4 * width, width)
        yield from _norm(f"{layer}.output.LayerNorm", width)


def _head_layout(width: int) -> Iterator[_Row]:
    places = (0, 2, 4, 6, 7)  # Dropout sits between the first layers of the reference's nn.Sequential
    for place, inputs, outputs in zip(places, (width, *HEAD_WIDTHS[:-1]), HEAD_WIDTHS, strict=True):
        yield from _linear(f"mlp.layers.{place}", inputs, outputs)


def _tensor(seed: int, name: str, shape: tuple[int, ...], centre: float, spread: float) -> Tensor:
    if name.endswith("position_ids"):
        return torch.arange(shape[1]).expand(shape).clone()
    count = math.prod(shape)
    # Keyed by name, so that a tensor keeps its numbers when layers before it are left out.
    stream = np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))
    words: Any = stream.random_raw(-(-count // 4))  # four 16-bit uniforms to a 64-bit word
    numbers = words.astype("<u8", copy=False).view("<u2")[:count].astype(np.float32)
    numbers -= np.float32(32767.5)
    numbers *= np.float32(spread * math.sqrt(12) / 65536)  # a uniform of width w has standard deviation w / sqrt(12)
    numbers += np.float32(centre)
    return torch.from_numpy(numbers.reshape(shape))
