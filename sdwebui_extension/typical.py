"""What the scores of a scorer usually are: the threshold to begin with, and what to know before choosing another."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.scorers.mixture import Mixture, is_mixture
from ..core.scorers.registry import scorer_infos


@dataclass(frozen=True)
class Typical:
    """Mean and standard deviation of a scorer over generated images, measured or somebody's estimate."""

    mean: float
    std: float
    estimated: bool

    @property
    def threshold(self) -> float:
        """Half of all images pass."""
        return float(f"{self.mean:.3g}")

    @property
    def decimals(self) -> int:
        """How many tell two images apart at a glance."""
        return max(2, math.ceil(1 - math.log10(self.std)))

    def help(self) -> str:
        above = [f"{self.mean + deviations * self.std:.3g}" for deviations in range(3)]
        return (
            f"{'Roughly half' if self.estimated else 'Half'} of all images score above {above[0]}, one in six above "
            f"{above[1]}, one in forty above {above[2]}."
        )


def typical(scorer: str) -> Typical:
    """Of a name in the registry, or of a mixture of such as if its members were independent."""
    infos = scorer_infos()
    mixture = Mixture.parse(scorer) if is_mixture(scorer) else Mixture({scorer: 1.0})
    mean, variance = 0.0, 0.0
    for name, weight in mixture.weights.items():
        info = infos[name]
        scale = weight / info.std if mixture.normalise else weight
        mean += 0.0 if mixture.normalise else weight * info.mean
        variance += (scale * info.std) ** 2
    estimated = len(mixture.weights) > 1 or any(infos[name].estimated for name in mixture.weights)
    return Typical(mean, math.sqrt(variance) or 1.0, estimated)
