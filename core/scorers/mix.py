"""A weighted sum of scorers, `mix(imagereward=1, aesthetic=0.01)`: as text, as JSON or YAML, or of scorers at hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..errors import ImageRewardError
from .base import Scorer, ScorerInfo
from .towers import one_batch

FILE_SUFFIXES = (".json", ".yaml", ".yml")
_EXPRESSION = re.compile(r"\s*mix\s*\((.*)\)\s*", re.DOTALL | re.IGNORECASE)
_NORMALISE = ("normalise", "normalize")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SHAPE = '{"mix": {"imagereward": 1, "aesthetic": 0.01}, "normalise": false}'


@dataclass(frozen=True)
class Mixture:
    """Which scorers with which weights, before anything is loaded.

    weights: what `load_scorer` takes -> weight. normalise: weigh z-scores (score minus its typical mean, over its typical
    standard deviation) instead of raw scores, so that equal weights mean equal influence.
    """

    weights: Mapping[str, float]
    normalise: bool = False

    def __post_init__(self) -> None:
        if not self.weights:
            raise ImageRewardError(
                "expected a mixture of at least one scorer, got none: mix(imagereward=1, aesthetic=0.01)"
            )
        for member, weight in self.weights.items():
            _require_finite(member, weight)
            if is_mixture(member):
                raise ImageRewardError(
                    f"a mixture cannot contain another mixture, {member!r}; list its members instead"
                )

    def __str__(self) -> str:
        members = [f"{member}={float(weight):g}" for member, weight in self.weights.items()]
        return f"mix({', '.join(members + ['normalise=true'] * self.normalise)})"

    def to_json(self) -> str:
        """The text of a mixture file."""
        return json.dumps({"mix": dict(self.weights), "normalise": self.normalise}, indent=2) + "\n"

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
            raise ImageRewardError(f"expected {_SHAPE} in {path}, got {json.dumps(data, default=str)[:200]}")
        normalise = next((data[key] for key in _NORMALISE if key in data), False)
        if not isinstance(normalise, bool):
            raise ImageRewardError(f"expected normalise to be true or false in {path}, got {normalise!r}")
        beside = {str(name): path.parent / str(name) for name in members}
        return cls({str(beside[n]) if beside[n].is_file() else n: w for n, w in members.items()}, normalise)


def is_mixture(spec: str) -> bool:
    """Whether `load_scorer` takes this as a mixture: an expression, or a JSON or YAML file."""
    return _EXPRESSION.fullmatch(spec) is not None or spec.lower().endswith(FILE_SUFFIXES)


def read_mixture(spec: str) -> Mixture:
    """The mixture that an expression or a file describes. Raises ImageRewardError before anything is loaded."""
    if _EXPRESSION.fullmatch(spec) is not None:
        return Mixture.parse(spec)
    return Mixture.from_file(Path(spec).expanduser())


class MixScorer(Scorer):
    """The weighted sum of loaded scorers; `parts` gives every component beside the total.

    The members stay usable on their own. Unloading the mixture frees the members that only it (or no one) asked for;
    unloading a member unloads the mixture too.
    """

    def __init__(self, members: Sequence[Scorer], weights: Sequence[float], *, normalise: bool = False) -> None:
        if len(members) != len(weights):
            raise ImageRewardError(f"expected a weight for each of the {len(members)} scorers, got {len(weights)}")
        if not members:
            raise ImageRewardError("expected a mixture of at least one scorer, got none")
        for member, weight in zip(members, weights, strict=True):
            _require_finite(member.info.name, weight)
        sizes = {member.input_size for member in members}
        size = sizes.pop() if len(sizes) == 1 else None
        network = nn.ModuleList([member.network for member in members])
        super().__init__(_describe(members, weights, normalise), network, size)
        self.members = tuple(members)
        self.weights = tuple(float(weight) for weight in weights)
        self.normalise = normalise
        self._titles = _distinct_titles(members, self.info.title)

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.parts(pixels, prompts)[self.info.title]

    def parts(self, pixels: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The total under this mixture's title, and the raw score of each member under its own."""
        self._require_loaded()
        raw: dict[str, Tensor] = {}
        prepared: dict[object, Tensor] = {}  # one resize for all members of the same recipe
        with self.lock, one_batch():
            for title, member in zip(self._titles, self.members, strict=True):
                recipe = (type(member).prepare, member.input_size, member.device)
                if recipe not in prepared:
                    prepared[recipe] = member.prepare(pixels)
                raw[title] = member.score(prepared[recipe], prompts)
        terms = [
            weight * (member.info.z_score(raw[title]) if self.normalise else raw[title]).to(self.device)
            for title, member, weight in zip(self._titles, self.members, self.weights, strict=True)
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return {self.info.title: total, **raw}

    def unload(self) -> None:
        from .loading import loaded_scorers

        if self.unloaded:
            return
        super().unload()
        for member in self.members:
            if not member.asked_for and not any(member in other.members for other in loaded_scorers()):
                member.unload()


def _describe(members: Sequence[Scorer], weights: Sequence[float], normalise: bool) -> ScorerInfo:
    """The info of a mixture: mean and standard deviation as if its members were independent."""
    infos = [member.info for member in members]
    scales = [1.0 / info.std if normalise else 1.0 for info in infos]
    variance = sum((w * s * info.std) ** 2 for w, s, info in zip(weights, scales, infos, strict=True))
    mean = 0.0 if normalise else sum(w * info.mean for w, info in zip(weights, infos, strict=True))
    limits = [info.prompt_tokens for info in infos if info.prompt_tokens is not None]
    members_text = [f"{info.name}={float(w):g}" for w, info in zip(weights, infos, strict=True)]
    return ScorerInfo(
        name=f"mix({', '.join(members_text + ['normalise=true'] * normalise)})",
        title="Mix",
        judges="The weighted sum of " + ", ".join(info.title for info in infos) + ".",
        reads_prompt=any(info.reads_prompt for info in infos),
        prompt_tokens=min(limits, default=None),
        mean=mean,
        std=math.sqrt(variance) or 1.0,
        licence=", ".join(dict.fromkeys(info.licence for info in infos)),
        source=", ".join(dict.fromkeys(info.source for info in infos)),
        paper=", ".join(dict.fromkeys(info.paper for info in infos)),
        weights=tuple(dict.fromkeys(weight for info in infos for weight in info.weights)),
        typical="its members' means and standard deviations, as if they were independent",
    )


def _distinct_titles(members: Sequence[Scorer], taken: str) -> list[str]:
    """The members' titles; a second "ImageReward" is "ImageReward 2"."""
    titles: list[str] = []
    for member in members:
        title, count = member.info.title, 1
        while title in titles or title == taken:
            count += 1
            title = f"{member.info.title} {count}"
        titles.append(title)
    return titles


def _require_finite(member: str, weight: object) -> None:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageRewardError(f"cannot read the mixture file {path}: {error}") from error
    data = _parse_json(text, path) if path.suffix.lower() == ".json" else _parse_yaml(text, path)
    if not isinstance(data, dict):
        raise ImageRewardError(f"expected {_SHAPE} in {path}, got {type(data).__name__}")
    return data


def _parse_json(text: str, path: Path) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ImageRewardError(f"{path} is no JSON: {error}; expected {_SHAPE}") from error


def _parse_yaml(text: str, path: Path) -> object:
    try:
        import yaml  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise ImageRewardError(
            f"reading {path} needs PyYAML (pip install pyyaml); or write it as JSON: {_SHAPE}"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ImageRewardError(f"{path} is no YAML: {error}; expected {_SHAPE}") from error
