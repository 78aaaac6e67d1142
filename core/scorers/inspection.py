"""Whether a scorer's files are here and whole: each is read as loading reads it, but nothing is built or downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageRewardError
from ..files.text import read_text
from ..networks.clip import ClipLayout
from ..weights.catalogue import WeightFile
from ..weights.locate import download_folder, find_weight
from ..weights.read import read_checkpoint
from .base import ScorerInfo
from .loading import describe
from .registry import scorer_classes

_TEXTS = (".txt", ".json")
_WHOLE = 0.9  # of the published size; a text with other line ends is a little longer or shorter


@dataclass(frozen=True)
class Fault:
    """A file that is missing or cannot be used, and what mends it."""

    weight: WeightFile
    reason: str  # "is missing"
    cure: str
    damaged: bool  # it is there, and will fail; one that is missing may still be downloaded

    def __str__(self) -> str:
        return f"{self.weight.name} {self.reason}. Fix: {self.cure}"


def faults_of(info: ScorerInfo) -> list[Fault]:
    """What stands between a scorer and its use, in the order of its files; [] if nothing does."""
    return list(_faults(info))


def _faults(info: ScorerInfo) -> Iterator[Fault]:
    main = find_weight(info.weights[0]) if info.weights else None
    for weight in info.weights:
        if main is not None and _has_beside(main, weight):
            continue
        path = find_weight(weight)
        if path is None:
            yield Fault(weight, "is missing", _cure(info, weight), damaged=False)
            continue
        reason = _reason(info, weight, path)
        if reason:
            yield Fault(weight, f"is not usable ({reason})", f"delete {path}, then {_cure(info, weight)}", damaged=True)


def _has_beside(checkpoint: Path, weight: WeightFile) -> bool:
    """Whether a vocabulary of its own lies beside the checkpoint, which is then taken (`companion`)."""
    name = weight.file.rsplit("/", 1)[-1]
    return Path(name).suffix in _TEXTS and (checkpoint.parent / name).is_file()


def _cure(info: ScorerInfo, weight: WeightFile) -> str:
    if weight.repo:
        return f"imagereward download {info.name}"
    return f"download {weight.url} and save it as {download_folder() / weight.name}"


def _reason(info: ScorerInfo, weight: WeightFile, path: Path) -> str:
    """Why the file cannot be used; "" if it can."""
    try:
        if path.suffix in _TEXTS:
            return _reason_of_text(weight, path)
        checkpoint = read_checkpoint(path)
        own = weight == info.weights[0]
        fits = scorer_classes()[info.name].recognises(checkpoint) if own else ClipLayout.of(checkpoint.tensors)
        return "" if fits else describe(checkpoint)
    except (ImageRewardError, OSError) as error:
        return str(error).removeprefix(f"{path} ")


def _reason_of_text(weight: WeightFile, path: Path) -> str:
    length = len(read_text(path).encode())
    return f"expected about {weight.size:,} bytes, got {length:,}" if length < _WHOLE * weight.size else ""
