from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sd_imagereward.examples.miniature.claims import mean_over_captions, true_values, wins
from sd_imagereward.examples.miniature.stages import SMALL, Workshop, run, seconds


def test_drawings_that_are_as_good_count_as_half_a_win() -> None:
    theirs = np.array([[1.0, 2.0], [3.0, 3.0]])
    assert wins(theirs, theirs).value == 0.5
    assert wins(theirs + 1, theirs).value == 1.0
    assert wins(np.array([[2.0, 2.0], [3.0, 0.0]]), theirs).value == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)


def test_the_interval_is_over_captions_not_over_drawings() -> None:
    """Drawings of one caption are alike: a thousand of them are no more evidence than its mean."""
    few, many = np.array([[0.0], [1.0], [2.0]]), np.repeat([[0.0], [1.0], [2.0]], 1000, axis=1)
    assert mean_over_captions(few) == mean_over_captions(many)


def test_true_values_stand_by_caption_and_noise(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, 0, SMALL)
    folder = shop / "drawings" / "tuned"
    folder.mkdir(parents=True)
    values = {
        "007_1.png": 1.0,
        "007_0.png": 0.0,
        "003_1.png": 3.0,
        "003_0.png": 2.0,
        "007_10.png": 5.0,
        "003_10.png": 4.0,
    }
    (folder / "truth.json").write_text(json.dumps(values))
    assert true_values(shop, "tuned").tolist() == [[2.0, 3.0, 4.0], [0.0, 1.0, 5.0]]


def test_a_stage_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    shop, ran = Workshop(tmp_path, 0, SMALL), []

    def fails(shop: Workshop) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(shop, {"first": lambda shop: ran.append("first"), "second": fails})
    run(shop, {"first": lambda shop: ran.append("first"), "second": lambda shop: ran.append("second")})
    assert ran == ["first", "second"]
    assert list(seconds(shop)) == ["first", "second"]
