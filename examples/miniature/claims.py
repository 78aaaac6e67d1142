"""What the paper claims, asked of the miniature: each claim a number with its 95% interval over test captions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.preference.agreement import Estimate, bootstrap, pair_counts
from .stages import Workshop, read_scores, truths

Values = NDArray[np.float64]
BEST_OF = 8
WINS, EVEN = 0.60, 0.50


@dataclass(frozen=True)
class Claim:
    """What was asked, what came, and whether it is so."""

    letter: str  # of the claim it belongs to
    asked: str
    found: Estimate
    holds: bool
    percent: bool = False

    def in_words(self) -> str:
        def shown(value: float) -> str:
            return f"{100 * value:.1f}%" if self.percent else f"{value:+.3f}"

        interval = "" if np.isnan(self.found.low) else f" [{shown(self.found.low)}, {shown(self.found.high)}]"
        return f"{shown(self.found.value)}{interval}"


def claims_of(shop: Workshop) -> list[Claim]:
    return [*agreement_claims(shop), *tuning_claims(shop), *ranking_claims(shop), *best_of_claims(shop)]


# -- (a) the reward model ------------------------------------------------------------------------------------------


def agreements(shop: Workshop) -> dict[str, Estimate]:
    """Preference accuracy on the test rankings by scorer, with its interval over captions."""
    counts = {name: _counts(shop, name) for name in shop.scorers}
    return {name: bootstrap((c[:, 0], c[:, 1]), lambda a, t: a.sum(-1) / t.sum(-1)) for name, c in counts.items()}


def agreement_claims(shop: Workshop) -> list[Claim]:
    ours = _counts(shop, "trained")
    claims = []
    for other in ("BLIP", "CLIP", "technical"):
        theirs = _counts(shop, other)
        lead = bootstrap((ours[:, 0], theirs[:, 0], ours[:, 1]), lambda a, b, t: (a - b).sum(-1) / t.sum(-1))
        asked = f"the trained reward model agrees with the truth more often than {other}"
        claims.append(Claim("a", asked, lead, lead.low > 0, percent=True))
    accuracy = {name: estimate.value for name, estimate in agreements(shop).items()}
    between = accuracy["BLIP"] < accuracy["head only"] < accuracy["trained"]
    head = _alone(accuracy["head only"])
    return [*claims, Claim("a", "training the head alone lies between BLIP and the whole", head, between, percent=True)]


def _counts(shop: Workshop, scorer: str) -> Values:
    """(captions, 2): pairs ordered as the truth orders them, and all pairs."""
    scores = read_scores(shop, f"test {scorer}")
    records = json.loads((shop / "rankings" / "test" / "rankings.json").read_text(encoding="utf-8"))
    counts: defaultdict[str, Values] = defaultdict(lambda: np.zeros(2))
    for record in records:
        alike, ordered, _ = pair_counts(record["ranking"], [scores[Path(file).name] for file in record["generations"]])
        counts[record["prompt"]] += (alike, ordered)
    return np.stack([counts[text] for text in shop.split.test])


# -- (b), (c) tuning -----------------------------------------------------------------------------------------------


def true_values(shop: Workshop, artist: str, folder: str = "drawings") -> Values:
    """(captions, noises): the truth of an artist's drawings."""
    return _by_caption(truths(shop / folder / artist))


def _by_caption(values: Mapping[str, float]) -> Values:
    rows: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for name, value in values.items():
        caption, noise = name.removesuffix(".png").split("_")
        rows[caption].append((int(noise), value))
    return np.array([[value for _, value in sorted(rows[caption])] for caption in sorted(rows)])


def wins(ours: Values, theirs: Values) -> Estimate:
    """Share of drawings that are better than those of the same caption and noise; equal ones count half."""
    return mean_over_captions((ours > theirs) + 0.5 * (ours == theirs))


def mean_over_captions(values: Values) -> Estimate:
    return bootstrap((values.mean(1),), lambda rows: rows.mean(-1))


def tuning_claims(shop: Workshop) -> list[Claim]:
    untuned = true_values(shop, "untuned")
    claims = []
    for artist, title in (("tuned", "the LoRA"), ("full", "full tuning")):
        drawn = true_values(shop, artist)
        won, rise = wins(drawn, untuned), mean_over_captions(drawn - untuned)
        holds = won.value >= WINS and won.low > EVEN
        claims.append(Claim("b", f"{title} wins against the untuned model in at least 60%", won, holds, percent=True))
        claims.append(Claim("b", f"{title} raises the mean truth", rise, rise.low > 0))
    at = [float(true_values(shop, artist).mean()) for artist in ("untuned", "half", "tuned")]
    asked = "at strength 0.5 the truth lies between those of strengths 0 and 1"
    return [*claims, Claim("c", asked, _alone(at[1]), at[0] < at[1] < at[2])]


# -- (d), (e) ranking and choosing ---------------------------------------------------------------------------------


def ranking_claims(shop: Workshop) -> list[Claim]:
    """`benchmark`'s order of untuned, half and tuned is the truth's; the number is how many of the three pairs agree."""
    (results,) = (shop / "benchmark").glob("*-benchmark-results.json")
    by_reward = json.loads(results.read_text(encoding="utf-8"))
    artists = ("untuned", "half", "tuned")
    by_truth = [-float(true_values(shop, artist).mean()) for artist in artists]
    alike, pairs, _ = pair_counts(by_truth, [by_reward[artist] for artist in artists])
    asked = "benchmark puts untuned, half-tuned and tuned in the truth's order"
    return [Claim("d", asked, _alone(alike / pairs), alike == pairs, percent=True)]


def chosen(shop: Workshop, artist: str) -> Values:
    """(captions,): the truth of the best of eight drawings by the reward."""
    reward = _by_caption(read_scores(shop, f"drawings {artist}"))[:, :BEST_OF]
    return np.take_along_axis(true_values(shop, artist), reward.argmax(1)[:, None], 1)


def best_of_claims(shop: Workshop) -> list[Claim]:
    one, best, tuned = (
        true_values(shop, "untuned").mean(1, keepdims=True),
        chosen(shop, "untuned"),
        chosen(shop, "tuned"),
    )
    rise, more = mean_over_captions(best - one), mean_over_captions(tuned - best)
    return [
        Claim("e", f"the best of {BEST_OF} by reward is better than one drawing", rise, rise.low > 0),
        Claim("e", f"with the tuned model the best of {BEST_OF} is better still", more, more.low > 0),
    ]


def _alone(value: float) -> Estimate:
    return Estimate(value, np.nan, np.nan)
