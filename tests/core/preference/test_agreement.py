"""Agreement with human rankings: by hand, against the reference, and against scipy's published examples."""

from __future__ import annotations

import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.synthetic import score
from sd_imagereward.core.preference.agreement import (
    agreement,
    average_ranks,
    best_agrees,
    bootstrap,
    kendall,
    pair_counts,
    spearman,
)
from sd_imagereward.core.preference.rankings import pairs_of
from sd_imagereward.core.preference.reading import read_rankings


def test_by_hand_with_ties_on_both_sides():
    # Pairs: 1-2 right; 1-2' wrong, since equal scores are; 2-2' is a human tie.
    assert pair_counts([1, 2, 2], [0.5, 0.1, 0.5]) == (1, 2, 1)
    # The same pairs, all right and all wrong.
    assert pair_counts([1, 2, 3], [3, 2, 1]) == (3, 3, 0)
    assert pair_counts([1, 2, 3], [1, 2, 3]) == (0, 3, 0)


def test_the_total_pools_pairs_and_the_mean_weighs_prompts_alike():
    result = agreement([[1, 2, 3], [2, 1]], [[3, 2, 1], [1, 0]])
    assert (result.prompts, result.pairs, result.human_ties) == (2, 4, 0)
    assert result.accuracy.value == 3 / 4
    assert result.accuracy_per_prompt.value == (1 + 0) / 2
    assert result.best.value == 1 / 2
    assert result.spearman.value == 0.0
    assert result.kendall.value == 0.0


def test_the_best_image_may_be_one_of_several_that_people_put_first():
    assert best_agrees([1, 1, 2], [0.0, 1.0, 0.5])
    assert not best_agrees([1, 1, 2], [0.0, 0.1, 0.5])


def test_ranks_share_the_mean_of_their_places():
    assert average_ranks([10, 30, 20, 20]).tolist() == [1, 4, 2.5, 2.5]


def test_correlations_by_hand():
    # Kendall 1945: x = 1 2 3 4, y = 1 2 2 3: 5 concordant of 6 pairs, one tie in y: 5 / sqrt(6 * 5).
    assert kendall([1, 2, 3, 4], [1, 2, 2, 3]) == pytest.approx(5 / math.sqrt(30))
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233)  # scipy.stats.spearmanr
    assert math.isnan(spearman([1, 1], [1, 2]))
    assert math.isnan(kendall([1, 2], [3, 3]))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-2, 2)), min_size=2, max_size=7))
def test_pairs_are_counted_as_the_reference_counts_them(items: list[tuple[int, int]]):
    ordered = [(a, b) for a, b in combinations(items, 2) if a[0] != b[0]]
    alike = [(a, b) for a, b in ordered if (a[1] > b[1] if a[0] < b[0] else a[1] < b[1])]
    ranks, scores = zip(*items, strict=True)
    assert pair_counts(ranks, scores)[:2] == (len(alike), len(ordered))


def test_equal_to_the_reference_on_the_real_human_rankings(shared_data, repository):
    """466 prompts, 7,230 pairs, 831 of them human ties; synthetic scores with many predicted ties."""
    goldens = json.loads((repository / "tests/reference/preference_goldens.json").read_text())["accuracy"]
    rankings = read_rankings(shared_data / "imagereward-test-rankings.json")
    ranks = [ranking.ranks for ranking in rankings]
    assert len(pairs_of(rankings)) == 6399
    for scorer, expected in goldens.items():
        names = [["/".join(image.parts[-4:]) for image in ranking.images] for ranking in rankings]
        result = agreement(ranks, [[score(scorer, name) for name in row] for row in names])
        assert (result.prompts, result.pairs, result.human_ties) == (466, 6399, 831)
        assert result.accuracy.value == expected  # to the last digit
        assert result.accuracy.low < expected < result.accuracy.high


def test_the_bootstrap_interval_covers_what_theory_says():
    # 400 coin flips: the interval of the mean is about 0.5 +- 1.96 * 0.5 / 20.
    flips = np.array([0.0, 1.0] * 200)
    mean = bootstrap((flips,), lambda values: values.mean(-1))
    assert mean.value == 0.5
    assert mean.low == pytest.approx(0.451, abs=0.006)
    assert mean.high == pytest.approx(0.549, abs=0.006)
    again = bootstrap((flips,), lambda values: values.mean(-1))
    assert mean == again  # the same data give the same interval


def test_one_prompt_has_no_interval():
    assert math.isnan(agreement([[1, 2]], [[1, 0]]).accuracy.low)
