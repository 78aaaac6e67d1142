"""Every scorer, from a tiny random checkpoint in its real layout, keeps the contract of `contract.py`."""

from __future__ import annotations

from pathlib import Path

import contract
import pytest
from scorer_cases import CASES, Case
from sd_imagereward.core import Scorer, load_scorer, scorer_infos, unload_all


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def source(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path | str:
    if case.name not in (*scorer_infos(), "mix"):
        pytest.skip(f"no scorer {case.name!r} in this version")
    return case.make(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def scorer(source: Path | str) -> Scorer:
    return load_scorer(source, device="cpu", dtype="fp32")


@pytest.fixture(scope="module", autouse=True)
def _nothing_stays():
    yield
    unload_all()


def test_every_scorer_has_a_case():
    assert {case.name for case in CASES.values()} >= set(scorer_infos())


def test_is_recognised_by_its_tensors(scorer: Scorer, case: Case):
    assert scorer.info.name.split("(")[0] == case.name


def test_every_road_gives_the_same_score(scorer: Scorer, tmp_path: Path):
    contract.check_roads(scorer, tmp_path)


def test_a_batch_is_its_images(scorer: Scorer):
    contract.check_batch(scorer)


def test_reads_the_prompt_as_it_says(scorer: Scorer):
    contract.check_prompt(scorer)


def test_nothing_in_nothing_out(scorer: Scorer):
    contract.check_empty(scorer)


def test_wrong_input_is_refused(scorer: Scorer):
    contract.check_wrong_input(scorer)


def test_gradient_is_right(scorer: Scorer):
    # Technical's medians and limits have kinks, which a step of any length may cross; each measure is tested by itself.
    contract.check_gradient(scorer, tolerance=0.25 if scorer.info.name == "technical" else 0.05)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_stays_near(scorer: Scorer, source: Path | str, dtype: str):
    contract.skip_without_half_on_the_cpu(dtype)
    contract.check_half(scorer, load_scorer(source, device="cpu", dtype=dtype))


def test_int8_runs(scorer: Scorer, source: Path | str):
    int8 = load_scorer(source, device="cpu", dtype="int8")
    assert contract.score_images(int8, contract.pictures(), contract.PROMPTS).total.isfinite().all()


def test_unload_frees(source: Path | str):
    unload_all()
    contract.check_unload(load_scorer(source, device="cpu", dtype="fp32"))


def test_data_beside_each_is_whole():
    for name, info in scorer_infos().items():
        assert info.name == name
        assert info.std > 0
        assert info.measures.endswith(".")
        assert info.licence
        assert info.source.startswith("https://") or not info.weights
        assert info.typical
        assert not info.title.endswith(("Score", "score"))  # image browsers take such a key for theirs
