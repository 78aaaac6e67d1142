"""A tiny random checkpoint of every scorer in its real layout: what each test of all scorers runs over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import scorer_checkpoints as write
from checkpoints import write_imagereward


@dataclass(frozen=True)
class Case:
    name: str  # of the scorer that must be recognised
    make: Callable[[Path], Path | str]  # writes a checkpoint, gives what load_scorer takes


def _mixture(folder: Path) -> str:
    write.write_clip(folder)
    members = {write_imagereward(folder / "imagereward"): 1, write.write_aesthetic(folder): 0.5}
    return f"mix({', '.join(f'{path}={weight}' for path, weight in members.items())})"


CASES = {
    "imagereward": Case("imagereward", write_imagereward),
    "technical": Case("technical", lambda _: "technical"),
    "blip": Case("blip", write.write_blip),
    "clip, Hub": Case("clip", write.write_clip),
    "clip, open_clip": Case("clip", lambda folder: write.write_clip(folder, name="ViT-L-14.pt", layout="open_clip")),
    "aesthetic": Case("aesthetic", lambda folder: (write.write_clip(folder), write.write_aesthetic(folder))[1]),
    "pickscore": Case(
        "pickscore", lambda folder: write.write_clip(folder, name="PickScore_v1.safetensors", **write.TINY_H)
    ),
    "hpsv2.1": Case(
        "hpsv2.1",
        lambda folder: write.write_clip(
            folder, name="HPS_v2.1_compressed.pt", layout="open_clip", wrap="state_dict", **write.TINY_H
        ),
    ),
    "hpsv2": Case(
        "hpsv2",
        lambda folder: write.write_clip(
            folder, name="HPS_v2_compressed.pt", layout="open_clip", wrap="state_dict", **write.TINY_H
        ),
    ),
    "mix": Case("mix", _mixture),
}
