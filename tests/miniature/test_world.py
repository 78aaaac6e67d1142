"""The world that the miniature is made of: its truth reads pictures as a person would."""

from __future__ import annotations

import numpy as np
import pytest
from sd_imagereward.examples.miniature.world import BEST, CAPTIONS, FAULTS, SIDE, Split, paint, paint_caption, truth

TEXTS = list(CAPTIONS)
PAIRS = [text for text in TEXTS if CAPTIONS[text].relation]


def pictures(faults: tuple[str, ...], count: int = 40, seed: int = 0) -> list[tuple[np.ndarray, str]]:
    rng = np.random.default_rng(seed)
    texts = [PAIRS[n] for n in rng.integers(len(PAIRS), size=count)]
    return [(paint_caption(text, rng, faults), text) for text in texts]


@pytest.mark.parametrize("text", TEXTS)
def test_a_flawless_picture_of_each_caption_is_worth_the_most(text: str) -> None:
    assert truth(paint(CAPTIONS[text].things), text) == pytest.approx(BEST, abs=0.01)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_costs(fault: str) -> None:
    flawless = np.mean([truth(*each) for each in pictures(())])
    spoilt = np.mean([truth(*each) for each in pictures((fault,))])
    assert flawless - spoilt > 0.3


def test_two_faults_cost_more_than_one() -> None:
    once, twice = (np.mean([truth(*each) for each in pictures(f)]) for f in [("noise",), ("noise", "missing")])
    assert twice < once - 0.3


def test_the_truth_reads_the_caption() -> None:
    shown = [(pixels, text, " left of ".join(reversed(text.split(" left of ")))) for pixels, text in pictures(())]
    swapped = [(truth(pixels, text), truth(pixels, other)) for pixels, text, other in shown if text != other]
    assert swapped
    assert all(right > wrong + 0.5 for right, wrong in swapped)


@pytest.mark.parametrize("pixels", [np.full((SIDE, SIDE, 3), level, np.uint8) for level in (0, 128, 255)])
def test_an_empty_picture_is_worth_little(pixels: np.ndarray) -> None:
    assert truth(pixels, PAIRS[0]) <= 0


def test_pure_noise_is_worth_little() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    assert max(truth(noise, text) for text in TEXTS) < 1


def test_no_caption_is_for_two_things() -> None:
    split = Split.of(0)
    assert len(split.test) >= 50
    assert sorted([*split.train, *split.valid, *split.test]) == sorted(TEXTS)
    assert Split.of(1).test != split.test
