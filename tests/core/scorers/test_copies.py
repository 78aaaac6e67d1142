"""A scorer goes into pickles and deep copies: by its file while nothing changed, with its weights otherwise."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from checkpoints import write_imagereward
from mounting import mount_package
from scorer_cases import CASES
from sd_imagereward.core import ImageRewardError, Scorer, load_scorer
from torch import Tensor, nn

PROMPTS = ["a red castle", "a photo of a cat"]
PIXELS = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def scores(scorer: Scorer) -> Tensor:
    with torch.no_grad():
        return scorer.score(PIXELS, PROMPTS)


@pytest.fixture(params=[name for name in CASES if "," not in name])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    return CASES[request.param].make(tmp_path)


def change(scorer: Scorer) -> None:
    with torch.no_grad():
        for weight in scorer.network.parameters():
            weight.mul_(1.5)


def test_an_unchanged_scorer_goes_by_its_file(spec: Path | str) -> None:
    scorer = load_scorer(spec, device="cpu", dtype="fp32")
    pickled = pickle.dumps(scorer)
    assert len(pickled) < 10_000
    assert pickle.loads(pickled) is scorer
    own = load_scorer(spec, device="cpu", dtype="fp32", shared=False)
    again = pickle.loads(pickle.dumps(own))
    assert again is not own
    assert torch.equal(scores(again), scores(scorer))


@pytest.mark.parametrize("way", [copy.deepcopy, lambda scorer: pickle.loads(pickle.dumps(scorer))])
def test_a_changed_scorer_goes_with_its_weights(spec: Path | str, way) -> None:
    scorer = load_scorer(spec, device="cpu", dtype="fp32", shared=False)
    as_loaded, pickled = scores(scorer), pickle.dumps(scorer)
    change(scorer)
    changed = scores(scorer)
    copied = way(scorer)
    assert torch.equal(scores(copied), changed)
    change(copied)
    assert torch.equal(scores(scorer), changed)
    assert torch.equal(scores(pickle.loads(pickled)), as_loaded)
    copied.unload()
    assert torch.equal(scores(scorer), changed)


def test_a_shared_scorer_that_was_changed_here_is_no_answer(tiny_checkpoint: Path) -> None:
    scorer = load_scorer(tiny_checkpoint, device="cpu", dtype="fp32")
    as_loaded, pickled = scores(scorer), pickle.dumps(scorer)
    change(scorer)
    assert torch.equal(scores(pickle.loads(pickled)), as_loaded)


def test_int8_copies(tiny_checkpoint: Path) -> None:
    scorer = load_scorer(tiny_checkpoint, device="cpu", dtype="int8", shared=False)
    assert torch.equal(scores(copy.deepcopy(scorer)), scores(scorer))


def test_settings_come_along(tiny_checkpoint: Path) -> None:
    scorer = load_scorer(tiny_checkpoint, device="cpu")
    scorer.long_prompts = "mean"
    pickled = pickle.dumps(scorer)
    scorer.long_prompts = "cut"
    assert pickle.loads(pickled).long_prompts == "mean"
    assert scorer.long_prompts == "cut"


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    path = write_imagereward(tmp_path)
    scorer = load_scorer(path, device="cpu", shared=False)
    by_file, by_value, expected = pickle.dumps(scorer), pickle.dumps(copy.deepcopy(scorer)), scores(scorer)
    os.utime(path, (1, 1))
    with pytest.raises(ImageRewardError, match=r"ImageReward\.pt.*missing or was changed"):
        pickle.loads(by_file)
    assert torch.equal(scores(pickle.loads(by_value)), expected)
    assert len(pickle.dumps(scorer)) > 100_000  # the file is not its own any more


def test_torch_saves_a_model_that_holds_one(tmp_path: Path, tiny_checkpoint: Path) -> None:
    model = nn.Linear(2, 2)
    model.reward = load_scorer(tiny_checkpoint, device="cpu", dtype="fp32", shared=False)
    torch.save(model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(scores(again.reward), scores(model.reward))


def test_processes_by_spawn_score(tiny_checkpoint: Path) -> None:
    scorer = load_scorer(tiny_checkpoint, device="cpu", dtype="fp32")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=mount_package) as pool:
        assert torch.allclose(pool.submit(scorer.score, PIXELS, PROMPTS).result(120), scores(scorer), atol=1e-6)
