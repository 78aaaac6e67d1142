"""A score is one pair on the last line, which stays last and recognised, and nothing else changes."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sd_imagereward.core import MixScorer, load_scorer
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.infotext.scores import read_scores, score_pair, score_texts, set_scores
from sd_imagereward.core.scoring.written import written_scores

LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Version: v1.10.1"
TITLES = ["ImageReward", "HPS v2.1", "PickScore", "aesthetic_score"]

finite = st.floats(-1e6, 1e6)
texts = st.text(alphabet=st.sampled_from("abc:, \n\"\\'😀é-()<>1"), max_size=60)
parameter_texts = texts | texts.map(lambda text: f"{text}\nNegative prompt: {text}\n{LINE}")
scores = st.dictionaries(st.sampled_from(TITLES), finite, min_size=1)


def test_score_pair():
    assert score_pair("ImageReward", 0.58116) == "ImageReward: 0.5812"
    assert score_pair("ImageReward", -1.4132) == "ImageReward: -1.4132"
    assert score_pair("ImageReward", -0.00001) == "ImageReward: 0.0000"
    assert score_pair("aesthetic_score", 6.123, decimals=2) == "aesthetic_score: 6.12"
    assert score_pair("ImageReward", torch.tensor(0.5)) == "ImageReward: 0.5000"


@given(st.text(max_size=12) | st.sampled_from(["Score", "PickScore", "CLIP score", "a", "", "HPS v2.1"]), finite)
def test_no_key_is_one_that_image_browsers_misread(title, value):
    pair = score_pair(title, value)
    assert not re.search(r"Score: ", pair, re.IGNORECASE)
    assert read_scores(f"Steps: 1, Seed: 2, {pair}", [title]) == {title: pytest.approx(value, abs=1e-4)}


def test_the_pair_joins_the_last_line():
    text = f"a cat,\ntwo lines\nNegative prompt: dog\n{LINE}"
    assert set_scores(text, {"ImageReward": 0.5812}) == f"{text}, ImageReward: 0.5812"


def test_the_value_is_replaced_where_it_stands():
    text = "cat\nSteps: 20, ImageReward: 0.1000, Seed: 1, ImageReward: 0.2000"
    assert set_scores(text, {"ImageReward": -1.4132}) == "cat\nSteps: 20, ImageReward: -1.4132, Seed: 1"


def test_a_line_that_only_doubles_made_recognisable_stays_recognised():
    assert set_scores("Steps: 20, ImageReward: 1, ImageReward: 2", {"ImageReward": 3}) == (
        "Steps: 20, ImageReward: 3.0000, Scored with: sd-imagereward"
    )


def test_a_pair_inside_a_quoted_value_is_not_ours():
    text = 'cat\nSteps: 20, Seed: 1, Hires prompt: "x, ImageReward: 9.0000, y"'
    assert set_scores(text, {"ImageReward": 0.5}) == f"{text}, ImageReward: 0.5000"


def test_a_line_of_loose_words_and_commas_is_kept():
    assert set_scores("Steps: 20, Seed: 1, Size: 8x8, Tiling,", {"ImageReward": 1}).endswith(
        "Tiling, ImageReward: 1.0000"
    )


def test_a_bare_prompt_gets_a_line_of_what_is_known():
    facts = {"Size": "512x768", "Version": "ComfyUI"}
    assert set_scores("a cat", {"ImageReward": 0.5}, facts=facts) == (
        "a cat\nSize: 512x768, Version: ComfyUI, ImageReward: 0.5000"
    )
    assert set_scores("", {"ImageReward": 0.5}, facts=facts) == "Size: 512x768, Version: ComfyUI, ImageReward: 0.5000"
    assert set_scores("a cat", {"ImageReward": 0.5}) == (
        "a cat\nImageReward: 0.5000, Scored with: sd-imagereward, Score meaning: higher is better"
    )


def test_a_line_too_short_for_a1111_is_completed():
    assert (
        set_scores("a cat\nSteps: 20, Seed: 1", {"ImageReward": 0.5})
        == "a cat\nSteps: 20, Seed: 1, ImageReward: 0.5000"
    )
    assert set_scores("a cat\nSteps: 20", {"ImageReward": 0.5}) == (
        "a cat\nSteps: 20, ImageReward: 0.5000, Scored with: sd-imagereward"
    )


def test_facts_do_not_touch_a_line_that_is_there():
    assert "ComfyUI" not in set_scores(f"cat\n{LINE}", {"ImageReward": 1.0}, facts={"Version": "ComfyUI"})


def test_scores_that_are_no_numbers_are_left_out():
    text = f"cat\n{LINE}, ImageReward: 0.5000"
    assert set_scores(text, {"ImageReward": math.nan}) == text
    assert score_texts({"ImageReward": math.nan, "PickScore": math.inf, "Technical": 1}) == {"Technical": "1.0000"}
    assert read_scores(
        f"{LINE}, ImageReward: nan, PickScore value: inf, Technical: 1.0000", [*TITLES, "Technical"]
    ) == {"Technical": 1.0}
    assert set_scores("cat", {"ImageReward": math.inf}) == "cat"
    assert set_scores("cat", {}) == "cat"


def test_read_scores_knows_which_pairs_are_scores():
    text = set_scores(f"cat, ImageReward: 3\n{LINE}", {"HPS v2.1": 0.27, "PickScore": 21.5, "ImageReward": -2})
    assert read_scores(text, TITLES) == {"HPS v2.1": 0.27, "PickScore": 21.5, "ImageReward": -2.0}
    assert read_scores(text, ["ImageReward"]) == {"ImageReward": -2.0}
    assert read_scores("cat", TITLES) == {}
    assert read_scores(f"{LINE}, ImageReward: good", TITLES) == {}


def test_written_scores_are_those_of_every_registered_scorer():
    text = f"{LINE}, HPS v2-1: 0.27, ImageReward: 0.5, aesthetic_score: 6.12, Other: 3.0"
    assert written_scores(text) == {"HPS v2.1": 0.27, "ImageReward": 0.5, "aesthetic_score": 6.12}


def test_a_mixtures_scores_are_read_like_any_other():
    mix = MixScorer([load_scorer("technical", device="cpu")] * 2, [1, 0.5])
    parts = {title: float(value) for title, value in mix.components(torch.zeros(1, 3, 16, 16), [""]).items()}
    assert list(parts) == ["Mix", "Technical", "Technical 2"]
    text = set_scores(f"cat\n{LINE}, Mix 3: 0.1, Technical 1: 0.2, Technical two: 0.3, Steps 2: 4", parts)
    assert written_scores(text) == pytest.approx({"Mix 3": 0.1, **parts}, abs=1e-4)
    assert written_scores(set_scores(LINE, {"HPS v2.1 2": 0.27})) == {"HPS v2.1 2": 0.27}
    assert read_scores(text, ["Mix"]) == {"Mix": pytest.approx(parts["Mix"], abs=1e-4)}


@given(parameter_texts, scores, scores)
def test_twice_changes_the_value_and_not_the_count(text, first, second):
    once = set_scores(text, first)
    assert set_scores(once, first) == once
    twice = set_scores(once, second)
    assert read_scores(twice, TITLES) == pytest.approx(first | second, abs=1e-4)
    last = twice.split("\n")[-1]
    for title in first | second:
        assert last.count(score_pair(title, 0).split(":")[0] + ": ") == 1


@given(parameter_texts, scores)
def test_prompts_and_other_fields_stay_and_the_line_stays_recognised(text, values):
    before, after = parse_parameters(text), parse_parameters(set_scores(text, values))
    assert len(after.fields) >= 3
    if before.fields:
        assert after.prompt == before.prompt
        assert {key: after.fields[key] for key in before.fields} == before.fields
    else:
        assert after.prompt.split() == before.prompt.split()
    assert after.negative.split() == before.negative.split()
