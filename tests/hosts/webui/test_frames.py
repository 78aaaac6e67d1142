"""A batch that yields more images than prompts: the frames of a video."""

from __future__ import annotations

import pytest
from PIL import Image
from sd_imagereward.core.pictures.texts import read_parameters

from .server import Result, WebUI
from .test_api import FILTER, NO_THRESHOLD, SORT, score_of, scores
from .test_callers import route_scores

pytestmark = pytest.mark.host

PROMPT = "a cat, FRAMES"
ONE = {"prompt": PROMPT, "batch_size": 1, "n_iter": 1}


@pytest.fixture
def five(fresh: WebUI) -> Result:
    """The frames as generated, and their files removed."""
    result = fresh.generate("ImageReward", False, NO_THRESHOLD, **ONE)
    for file in fresh.saved():
        file.unlink()
    return result


def test_each_frame_has_the_score_of_its_own_pixels(fresh: WebUI) -> None:
    result = fresh.generate(**ONE)
    assert len(set(scores(result))) == 5
    files = fresh.saved()
    assert [score_of(read_parameters(file)) for file in files] == scores(result)
    assert route_scores(fresh, [Image.open(file) for file in files], [PROMPT] * 5) == pytest.approx(
        scores(result), abs=1e-4
    )


def test_frames_are_filtered_one_by_one(five: Result, fresh: WebUI) -> None:
    threshold = sorted(scores(five))[2]
    result = fresh.generate("ImageReward", FILTER, threshold, **ONE)
    kept = [score for score in scores(five) if score >= threshold]
    assert scores(result) == kept
    assert [score_of(read_parameters(file)) for file in fresh.saved()] == kept


def test_frames_are_sorted_with_their_texts(five: Result, fresh: WebUI) -> None:
    result = fresh.generate("ImageReward", False, 0, SORT, **ONE)
    assert scores(result) == sorted(scores(five), reverse=True)
    images = result.images[result.grids :]
    assert route_scores(fresh, images, [PROMPT] * 5) == pytest.approx(scores(result), abs=1e-4)


def test_more_than_one_batch(fresh: WebUI) -> None:
    result = fresh.generate("ImageReward", False, 0, SORT, 3, prompt=PROMPT, batch_size=2, n_iter=2)
    assert len(scores(result)) == 3
    assert len(fresh.saved()) == 3


def test_a_batch_without_our_script_is_as_ever(fresh: WebUI) -> None:
    result = fresh.generate(script=None, **ONE)
    assert len(result.images) - result.grids == len(fresh.saved()) == 5
    assert not any("ImageReward" in text for text in result.texts)
