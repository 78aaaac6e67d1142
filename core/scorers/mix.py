"""The weighted sum of scorers that a `Mixture` describes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import ImageRewardError
from .base import Scorer, ScorerInfo
from .mixture import notation, require_finite
from .towers import one_batch

TITLE = "Mix"


class MixScorer(Scorer):
    """The weighted sum of loaded scorers; `components` gives every one beside the total.

    The members stay usable on their own. Unloading the mixture frees the members that only it (or no one) asked for;
    unloading a member unloads the mixture too.

    Args:
        members: loaded scorers, at least one.
        weights: a finite number for each member.
        normalise: whether each score is first turned into standard deviations from its scorer's typical mean.
    """

    def __init__(self, members: Sequence[Scorer], weights: Sequence[float], *, normalise: bool = False) -> None:
        if len(members) != len(weights):
            raise ImageRewardError(f"expected a weight for each of the {len(members)} scorers, got {len(weights)}")
        if not members:
            raise ImageRewardError("expected a mixture of at least one scorer, got none")
        for member, weight in zip(members, weights, strict=True):
            require_finite(member.info.name, weight)
        sizes = {member.input_size for member in members}
        size = sizes.pop() if len(sizes) == 1 else None
        network = nn.ModuleList([member.network for member in members])
        super().__init__(_describe(members, weights, normalise), network, size)
        self.members = tuple(members)
        self.weights = tuple(float(weight) for weight in weights)
        self.normalise = normalise
        self._titles = distinct_titles(members, self.info.title)
        for member in members:
            member.mixtures.add(self)

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.components(pixels, prompts)[self.info.title]

    def components(self, pixels: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
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
        if self.unloaded:
            return
        super().unload()
        for member in self.members:
            member.mixtures.discard(self)
            if not member.requested and not member.mixtures:
                member.unload()


def _describe(members: Sequence[Scorer], weights: Sequence[float], normalise: bool) -> ScorerInfo:
    """The info of a mixture: mean and standard deviation as if its members were independent."""
    infos = [member.info for member in members]
    scales = [1.0 / info.std if normalise else 1.0 for info in infos]
    variance = sum((w * s * info.std) ** 2 for w, s, info in zip(weights, scales, infos, strict=True))
    mean = 0.0 if normalise else sum(w * info.mean for w, info in zip(weights, infos, strict=True))
    limits = [info.prompt_tokens for info in infos if info.prompt_tokens is not None]
    return ScorerInfo(
        name=notation(zip((info.name for info in infos), weights, strict=True), normalise),
        title=TITLE,
        measures="The weighted sum of " + ", ".join(info.title for info in infos) + ".",
        reads_prompt=any(info.reads_prompt for info in infos),
        prompt_tokens=min(limits, default=None),
        mean=mean,
        std=math.sqrt(variance) or 1.0,
        licence=", ".join(dict.fromkeys(info.licence for info in infos)),
        source=", ".join(dict.fromkeys(info.source for info in infos)),
        paper=", ".join(dict.fromkeys(info.paper for info in infos)),
        weights=tuple(dict.fromkeys(weight for info in infos for weight in info.weights)),
        typical="its members' means and standard deviations, as if they were independent",
        estimated=True,
    )


def distinct_titles(members: Sequence[Scorer], taken: str = "") -> list[str]:
    """The members' titles; a second "ImageReward" is "ImageReward 2"."""
    titles: list[str] = []
    for member in members:
        title, count = member.info.title, 1
        while title in titles or title == taken:
            count += 1
            title = f"{member.info.title} {count}"
        titles.append(title)
    return titles
