"""Selection is arithmetic on positions: each rule is stated once as an example and once as a property."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.scoring.selection import Split, best, rank, split, take

NAN = math.nan
score_lists = st.lists(st.floats(allow_nan=True) | st.sampled_from([0.0, 0.5, -1.0]), max_size=12)


def test_rank_is_best_first_stable_and_puts_nan_last():
    assert rank([0.1, NAN, 0.9, 0.1, -math.inf]) == [2, 0, 3, 4, 1]
    assert rank([0.1, 0.9, 0.5], top=2) == [1, 2]
    assert rank([0.1, 0.9], top=5) == [1, 0]
    assert rank([]) == []


@pytest.mark.parametrize("convert", [list, tuple, np.array, torch.tensor, iter])
def test_rank_takes_whatever_holds_scores(convert):
    assert rank(convert([0.25, 0.75, 0.5])) == [1, 2, 0]


@given(score_lists)
def test_rank_is_a_permutation_in_falling_order(scores):
    order = rank(scores)
    assert sorted(order) == list(range(len(scores)))
    for above, below in pairwise(order):
        if math.isnan(scores[above]):
            assert math.isnan(scores[below])
        if scores[above] == scores[below] or (math.isnan(scores[above]) and math.isnan(scores[below])):
            assert above < below
        else:
            assert math.isnan(scores[below]) or scores[above] > scores[below]


def test_split_keeps_what_reaches_the_threshold_in_the_given_order():
    assert split([0.0, 1.0, NAN, -0.1], 0.0) == Split(kept=[0, 1], rejected=[2, 3])


def test_split_at_least_and_top():
    scores = [-3.0, -1.0, -2.0, NAN]
    assert split(scores, 0.0).kept == []
    assert split(scores, 0.0, at_least=2).kept == [1, 2]
    assert split(scores, 0.0, at_least=9).kept == [0, 1, 2]
    assert split(scores, -9.0, top=1).kept == [1]
    assert split(scores, 0.0, at_least=3, top=2).kept == [1, 2]
    assert split(scores, -math.inf).rejected == [3]


@given(score_lists, st.floats(allow_nan=False), st.integers(0, 14), st.integers(0, 14))
def test_split_loses_nothing_and_keeps_the_promised_numbers(scores, threshold, at_least, top):
    result = split(scores, threshold, at_least=at_least, top=top)
    assert sorted(result.kept + result.rejected) == list(range(len(scores)))
    assert result.kept == sorted(result.kept)
    assert result.rejected == sorted(result.rejected)
    passing = sum(score >= threshold for score in scores)
    promised = max(passing, min(at_least, sum(not math.isnan(score) for score in scores)))
    assert len(result.kept) == (min(promised, top) if top else promised)
    ranked = rank(scores)
    assert set(result.kept) == set(ranked[: len(result.kept)])  # whoever stays is no worse than whoever goes


def test_split_refuses_what_is_no_limit():
    with pytest.raises(ImageRewardError, match="NaN"):
        split([1.0], NAN)
    with pytest.raises(ImageRewardError, match="got -1"):
        split([1.0], 0.0, at_least=-1)
    with pytest.raises(ImageRewardError, match="got -2"):
        split([1.0], 0.0, top=-2)


def test_best():
    assert best([0.1, 0.7, 0.7]) == 1
    assert best([NAN, -5.0]) == 1
    with pytest.raises(ImageRewardError, match="got NaN for 2 images"):
        best([NAN, NAN])
    with pytest.raises(ImageRewardError, match="got none"):
        best([])


def test_two_dimensional_scores_are_refused():
    with pytest.raises(ImageRewardError, match=r"\(2, 1\)"):
        rank(torch.zeros(2, 1))
    with pytest.raises(ImageRewardError, match="one score per image"):
        rank(torch.tensor(1.0))


@given(st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), max_size=8))))
def test_everything_that_holds_images_moves_alike(case):
    total, positions = case
    seeds = list(range(100, 100 + total))
    expected = [seeds[p] for p in positions]
    assert take(seeds, positions) == expected
    assert take(tuple(seeds), positions) == tuple(expected)
    assert take([str(seed) for seed in seeds], positions) == [str(seed) for seed in expected]
    pixels = torch.tensor(seeds).view(total, 1, 1, 1).expand(total, 2, 2, 3)
    assert take(pixels, positions).shape == (len(positions), 2, 2, 3)
    assert take(pixels, positions)[:, 0, 0, 0].tolist() == expected
    assert take(np.array(seeds)[:, None], positions).shape == (len(positions), 1)
    assert take(np.array(seeds), positions).tolist() == expected
    latent = take({"samples": pixels, "kind": "audio"}, torch.tensor(positions, dtype=torch.int64))
    assert latent["samples"][:, 0, 0, 0].tolist() == expected
    assert latent["batch_index"] == positions
    assert latent["kind"] == "audio"
    assert take(None, positions) is None


def test_latent_masks_repeat_as_in_comfyui():
    samples = torch.arange(4.0).view(4, 1, 1, 1)
    mask = torch.tensor([10.0, 11.0]).view(2, 1, 1)
    latent = {"samples": samples, "noise_mask": mask, "batch_index": [7, 8, 9, 6]}
    taken = take(latent, [3, 0, 2])
    assert taken["noise_mask"].flatten().tolist() == [11.0, 10.0, 10.0]
    assert taken["batch_index"] == [6, 7, 9]
    assert latent["batch_index"] == [7, 8, 9, 6]
    assert take(latent | {"noise_mask": mask[:1]}, [3, 0])["noise_mask"].shape == (1, 1, 1)
    full = torch.arange(4.0).view(4, 1, 1)
    assert take(latent | {"noise_mask": full}, [3, 0])["noise_mask"].flatten().tolist() == [3.0, 0.0]


def test_a_taken_tensor_is_a_copy():
    pixels = torch.zeros(2, 3)
    take(pixels, [0, 1]).fill_(1.0)
    assert pixels.sum() == 0


def test_positions_are_never_read_as_a_mask():
    assert take(torch.tensor([5, 6]), [True, False]).tolist() == [6, 5]


def test_take_says_both_numbers():
    with pytest.raises(ImageRewardError, match="positions below 3, counted from 0, got 3"):
        take(torch.zeros(3, 2), [0, 3])
    with pytest.raises(ImageRewardError, match="got -1"):
        take([1, 2, 3], [-1])


@pytest.mark.parametrize("thing", ["text", 5, {"no": "samples"}, torch.tensor(1.0)])
def test_take_refuses_what_has_no_rows(thing):
    with pytest.raises(ImageRewardError, match="Expected a tensor or array"):
        take(thing, [0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: rank([1.0, 2.0], top=1.5),
        lambda: rank([1.0], top=-1),
        lambda: rank(["much"]),
        lambda: rank([None]),
        lambda: split([1.0], None),
        lambda: split([1.0], "1"),
        lambda: split([1.0], float("nan")),
        lambda: split([1.0], 0.0, at_least=1.5),
        lambda: take([1.0], [0.5]),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call):
    with pytest.raises(ImageRewardError):
        call()


def test_infinite_thresholds_keep_all_or_none():
    assert split([1.0, 2.0], float("-inf")).kept == [0, 1]
    assert split([1.0, 2.0], float("inf")).kept == []
    assert split([1.0, 2.0], float("inf"), at_least=1).kept == [1]
