"""What a CLIP checkpoint's tensors do not tell: its activation, and whether it was tuned on human preference.

OpenAI's models compute with QuickGELU, LAION's with GELU, and ViT-H tuned on people's choices (HPS, PickScore) has the shape of
LAION's ViT-H. With the wrong one of two the scores look right and are not: what may be LAION's is refused where nothing tells;
a CLIP of any other name is taken for OpenAI's, as `clip.load` takes every file, and the log says so.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UnknownCheckpoint
from ..networks.clip import ClipLayout
from ..weights.read import Checkpoint

QUICK_GELU, GELU = "quick_gelu", "gelu"

_log = logging.getLogger(__name__)

# Buffers of the archives that OpenAI published, which no other program writes.
_OPENAI_BUFFERS = ("input_resolution", "context_length")
# Names of OpenAI's models: of its archives, and of its repositories on the Hub.
_OPENAI_NAME = re.compile(
    r"vit-[bl]-\d+(-336px)?|(openai--)?clip-vit-(base|large)-patch\d+(-336)?(--.*)?", re.IGNORECASE
)
# What LAION's and open_clip's files are called.
_OTHERS_NAME = re.compile(r"laion|open_?clip|datacomp|dfn|metaclip", re.IGNORECASE)
_CLIP_MEAN = 0.48145466  # of the red channel


def expect_activation(checkpoint: Checkpoint) -> str:
    """The activation of a CLIP: as stated, else OpenAI's. Raises UnknownCheckpoint for a name of LAION's or open_clip's."""
    stated = stated_activation(checkpoint)
    if stated is not None:
        return stated
    cure = (
        "put the config.json (or open_clip_config.json) of its repository beside it, or give OpenAI's file its own name, "
        "as ViT-L-14.pt or clip-vit-large-patch14.safetensors."
    )
    if checkpoint.path is not None and any(map(_OTHERS_NAME.search, _names(checkpoint.path))):
        raise UnknownCheckpoint(
            f"{checkpoint.path} is a CLIP, but nothing tells whether it computes with QuickGELU (OpenAI) or GELU (LAION, "
            f"open_clip); the wrong one would give wrong scores. Fix: {cure}"
        )
    _log.warning(
        "%s is taken for a CLIP of OpenAI's (QuickGELU), as nothing says otherwise. To be sure: %s",
        checkpoint.path,
        cure,
    )
    return QUICK_GELU


def stated_activation(checkpoint: Checkpoint) -> str | None:
    """The activation as the file or its surroundings state it, None where nothing does. Raises UnknownCheckpoint."""
    if checkpoint.metadata.get("scorer") == "clip" or any(name in checkpoint.tensors for name in _OPENAI_BUFFERS):
        return QUICK_GELU
    path, layout = checkpoint.path, ClipLayout.of(checkpoint.tensors)
    if path is None or layout is None:
        return None
    configured = _configured(path, layout.width(checkpoint.tensors))
    return configured or (QUICK_GELU if any(map(_OPENAI_NAME.fullmatch, _names(path))) else None)


def is_named(checkpoint: Checkpoint, word: str) -> bool:
    """Whether a file, its folder or its metadata names a family ("hps"), in whatever spelling."""
    names = [*_names(checkpoint.path), checkpoint.metadata.get("scorer", "")] if checkpoint.path else []
    return any(word in re.sub("[^a-z]", "", name.lower()) for name in names)


def _names(path: Path) -> list[str]:
    """The file's stem, and its folder's name or, in the Hub's cache, its repository's."""
    cached = re.search(r"models--[^/\\]+?--([^/\\]+)[/\\]snapshots[/\\]", str(path))
    return [path.stem, cached[1] if cached else path.parent.name]


def _configured(path: Path, width: int) -> str | None:
    """The activation by transformers' or open_clip's configuration beside the file, if it is of an image tower this wide."""
    config, ours = _read(path.parent / "config.json"), _read(path.parent / "open_clip_config.json")
    if config.get("model_type") == "clip" and _inner(config, "vision_config").get("hidden_size", width) == width:
        _expect_mean(_read(path.parent / "preprocessor_config.json").get("image_mean"), path)
        towers = [_inner(config, tower) for tower in ("vision_config", "text_config")]
        # What transformers leaves out of the file is its own: QuickGELU.
        stated = {str(tower.get("hidden_act", QUICK_GELU)) for tower in towers}
        if stated in ({QUICK_GELU}, {GELU}):
            return stated.pop()
        raise UnknownCheckpoint(
            f"expected one activation in {path.parent / 'config.json'}, {QUICK_GELU} or {GELU}, got {' and '.join(stated)}"
        )
    model = _inner(ours, "model_cfg")
    if model and _inner(model, "vision_cfg").get("width", width) == width:
        _expect_mean(_inner(ours, "preprocess_cfg").get("mean"), path)
        return QUICK_GELU if model.get("quick_gelu") else GELU
    return None


def _expect_mean(mean: Any, path: Path) -> None:
    """Some of LAION's models were trained on pixels of mean 0.5, and would see others here."""
    if isinstance(mean, list) and mean and abs(float(mean[0]) - _CLIP_MEAN) > 1e-3:
        raise UnknownCheckpoint(f"{path} expects pixels normalised by the mean {mean}, which this package does not do")


def _inner(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = config.get(key)
    return inner if isinstance(inner, dict) else {}


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
