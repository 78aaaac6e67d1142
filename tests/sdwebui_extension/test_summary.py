"""The line under the gallery, and what is typical of a scorer."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

SCORES = [0.1234, -0.5, 0.58, -0.3444, 0.2, -0.9]


@pytest.fixture
def line(host: SimpleNamespace) -> Any:
    """`line(scores, [2, 0], filter=True)`: of these scores, with these positions in the gallery."""

    def call(scores: list[float], kept: list[int] | None = None, **request: Any) -> str:
        pictures = [host.job.Picture(i, None, 0, 0, "", "", 0, 0, score=score) for i, score in enumerate(scores)]
        shown = pictures if kept is None else [pictures[i] for i in kept]
        return host.summary.summary(host.request.read_request(**request), pictures, shown)

    return call


def test_all(line: Any) -> None:
    expected = "6 images scored with ImageReward: best 0.58 (image 3), median -0.11, 3 below 0."
    assert line(SCORES) == expected


def test_filtered_sorted_and_the_best(line: Any) -> None:
    assert line(SCORES, [2, 4], filter=True, threshold=0.15, sort=True) == (
        "6 images scored with ImageReward: best 0.58 (image 1), median -0.11, 4 below 0.15, 2 kept."
    )
    assert line(SCORES, [2], keep_best=1).endswith("3 below 0, 1 kept.")


def test_what_is_not_in_the_gallery_has_no_number(line: Any) -> None:
    assert "best 0.58, median" in line(SCORES, [])


def test_images_without_a_score(line: Any) -> None:
    assert line([0.5, math.nan, 0.25]).endswith("median 0.38, none below 0, 1 without a score.")
    assert line([math.nan] * 3) == ""


def test_one_image(line: Any) -> None:
    assert line([0.5812]) == "Scored with ImageReward: 0.58."


def test_other_scorers_count_from_what_is_typical_of_them(line: Any) -> None:
    assert line([20.5, 22.0], scorer="pickscore") == (
        "2 images scored with PickScore v1: best 22.00 (image 2), median 21.25, 1 below 21."
    )
    assert "best 0.301 (image 1)" in line([0.3011, 0.25], scorer="clip")


def test_it_stands_under_the_gallery(run: Any) -> None:
    assert run().comments.startswith("4 images scored with ImageReward: best ")
    assert run(filter=True, threshold=99).comments == ""  # the text of the empty gallery says it


def test_the_text_of_a_grid_comes_first_without_a_score(run: Any) -> None:
    processed = run(sort=True)
    assert processed.info == processed.infotexts[0]
    assert "ImageReward: " not in processed.info


@pytest.mark.parametrize(
    ("scorer", "threshold"),
    [
        ("imagereward", 0.0),
        ("aesthetic", 5.5),
        ("mix(aesthetic=2, pickscore=1)", 32.0),
        ("mix(aesthetic=2, pickscore=1, normalise=true)", 0.0),
    ],
)
def test_the_typical_threshold(host: SimpleNamespace, scorer: str, threshold: float) -> None:
    assert host.typical.typical(scorer).threshold == threshold


def test_every_scorer_has_a_help_of_three_numbers(host: SimpleNamespace) -> None:
    from sd_imagereward.core.scorers.registry import scorer_infos

    for name, info in scorer_infos().items():
        typical = host.typical.typical(name)
        text = typical.help()
        assert text.startswith("Roughly half" if info.estimated else "Half")
        numbers = [float(part.split(",")[0].rstrip(".")) for part in text.split("above ")[1:]]
        assert numbers == sorted(set(numbers))
        assert math.isclose(numbers[0], info.mean, abs_tol=info.std / 10)
