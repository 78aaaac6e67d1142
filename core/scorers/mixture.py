"""Which scorers with which weights: `mix(imagereward=1, aesthetic=0.01)` as text, or a small JSON or YAML file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageRewardError, UnreadableText
from ..files.parsing import parse_json, parse_yaml
from ..files.text import read_text
from ..weights.locate import search_folders

FILE_SUFFIXES = (".json", ".yaml", ".yml")
_EXPRESSION = re.compile(r"\s*mix\s*\((.*)\)\s*", re.DOTALL | re.IGNORECASE)
_KEY = re.compile(r"""(^|[\s{,])["']?mix["']?\s*:""")
_LARGEST_FILE = 65_536  # bytes; a tokenizer's JSON is larger
_NORMALISE = ("normalise", "normalize")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SHAPE = '{"mix": {"imagereward": 1, "aesthetic": 0.01}, "normalise": false}'


@dataclass(frozen=True)
class Mixture:
    """Which scorers with which weights, before anything is loaded.

    A z-score is a score minus its typical mean, over its typical standard deviation.
    """

    weights: Mapping[str, float]  # what `load_scorer` takes -> weight
    normalise: bool = False  # weigh z-scores instead of raw scores, so that equal weights mean equal influence

    def __post_init__(self) -> None:
        if not self.weights:
            raise ImageRewardError(
                "expected a mixture of at least one scorer, got none: mix(imagereward=1, aesthetic=0.01)"
            )
        for member, weight in self.weights.items():
            require_finite(member, weight)
            if is_mixture(member):
                raise ImageRewardError(
                    f"a mixture cannot contain another mixture, {member!r}; list its members instead"
                )
        if not any(self.weights.values()):
            raise ImageRewardError(
                f"expected a weight other than 0 in {self}: every image would score 0. Raise one of them"
            )

    def __str__(self) -> str:
        return notation(self.weights.items(), self.normalise)

    @classmethod
    def parse(cls, text: str) -> Mixture:
        """`mix(name=weight, ..., normalise=true)`; a name is a scorer, a file or hub:owner/name."""
        match = _EXPRESSION.fullmatch(text)
        if match is None:
            raise ImageRewardError(f"expected mix(name=weight, ...), got {text!r}")
        weights: dict[str, float] = {}
        normalise = False
        for item in filter(None, (part.strip() for part in match[1].split(","))):
            member, equals, value = (part.strip() for part in item.rpartition("="))
            if not equals or not member:
                raise ImageRewardError(f"expected name=weight in a mixture, got {item!r}")
            if member.lower() in _NORMALISE:
                normalise = _parse_truth(value)
                continue
            if member in weights:
                raise ImageRewardError(f"{member!r} stands twice in the mixture {text!r}")
            weights[member] = _parse_weight(member, value)
        return cls(weights, normalise)

    @classmethod
    def from_file(cls, path: str | Path) -> Mixture:
        """A small JSON or (where PyYAML is installed) YAML file; files named in it are looked for beside it first."""
        path = Path(path)
        data = _read_mapping(path)
        members = data.get("mix")
        unknown = set(data) - {"mix", *_NORMALISE}
        if not isinstance(members, Mapping) or unknown:
            raise ImageRewardError(f"expected {_SHAPE} in {path}, got {data!r:.200}")
        normalise = next((data[key] for key in _NORMALISE if key in data), False)
        if not isinstance(normalise, bool):
            raise ImageRewardError(f"expected normalise to be true or false in {path}, got {normalise!r}")
        beside = {str(name): os.path.join(path.parent, str(name)) for name in members}
        specs = {name: file if os.path.isfile(file) else name for name, file in beside.items()}
        return cls({specs[str(name)]: weight for name, weight in members.items()}, normalise)


def notation(members: Iterable[tuple[str, float]], normalise: bool) -> str:
    """The expression that `Mixture.parse` reads, with every digit of the weights that counts."""
    items = [f"{member}={_shortest(float(weight))}" for member, weight in members]
    return f"mix({', '.join(items + ['normalise=true'] * normalise)})"


def _shortest(number: float) -> str:
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def split_specs(text: str) -> list[str]:
    """ "a, mix(b=1, c=2)" -> ["a", "mix(b=1, c=2)"]: commas inside brackets belong to the scorer; none stands twice."""
    return list(dict.fromkeys(spec.strip() for spec in re.split(r",(?![^()]*\))", text) if spec.strip()))


def is_mixture(spec: str) -> bool:
    """Whether `load_scorer` takes this as a mixture: an expression, or a JSON or YAML file."""
    return _EXPRESSION.fullmatch(spec) is not None or spec.lower().endswith(FILE_SUFFIXES)


def read_mixture(spec: str) -> Mixture:
    """The mixture that an expression or a file describes. Raises ImageRewardError before anything is loaded."""
    if _EXPRESSION.fullmatch(spec) is not None:
        return Mixture.parse(spec)
    return Mixture.from_file(_file_of(Path(spec).expanduser()))


def _file_of(path: Path) -> Path:
    """The file, or one of that name in the folders where weights lie."""
    if path.is_file() or len(path.parts) > 1:
        return path
    return next((folder / path for folder in search_folders() if (folder / path).is_file()), path)


def mixture_files(folders: Iterable[Path]) -> list[Path]:
    """The mixture files in these folders, by name; vocabularies and configs, which are JSON too, are left out."""
    return [
        path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if looks_like_mixture(path)
    ]


def looks_like_mixture(path: Path) -> bool:
    """Whether a file is meant to be a mixture, right or wrong: small, and with a key "mix"."""
    if path.suffix.lower() not in FILE_SUFFIXES or not os.path.isfile(path) or os.path.getsize(path) > _LARGEST_FILE:
        return False
    try:
        return _KEY.search(read_text(path)) is not None
    except UnreadableText:
        return False


def require_finite(member: str, weight: object) -> None:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not abs(weight) <= sys.float_info.max:
        raise ImageRewardError(f"expected a finite number as the weight of {member!r}, got {weight!r}")


def _parse_weight(member: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ImageRewardError(f"expected a finite number as the weight of {member!r}, got {value!r}") from None


def _parse_truth(value: str) -> bool:
    if value.lower() not in _TRUTH:
        raise ImageRewardError(f"expected normalise=true or normalise=false, got {value!r}")
    return _TRUTH[value.lower()]


def _read_mapping(path: Path) -> dict[str, object]:
    text = read_text(path)
    if len(text) > _LARGEST_FILE:
        raise ImageRewardError(
            f"expected a mixture file of at most {_LARGEST_FILE >> 10} KiB, got a larger one: {path}"
        )
    is_json = path.suffix.lower() == ".json"
    data = parse_json(text, str(path)) if is_json else parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise ImageRewardError(f"expected {_SHAPE} in {path}, got {type(data).__name__}")
    if not is_json and isinstance(data.get("mix"), dict):  # YAML 1.1 reads 1e-2 as text
        data["mix"] = {n: _parse_weight(str(n), w) if isinstance(w, str) else w for n, w in data["mix"].items()}
    return data
