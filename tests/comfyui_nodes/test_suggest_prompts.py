from __future__ import annotations

import json
from pathlib import Path

import comfy.model_management as model_management
import folder_paths
import pytest
import torch
from run_node import run
from scorer_checkpoints import write_clip
from sd_imagereward.comfyui_nodes import hosting
from sd_imagereward.comfyui_nodes.nodes.suggest_prompts import SuggestPrompts
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.scorers.loading import load_scorer


@pytest.fixture
def library(base: Path) -> Path:
    rows = [{"text": "a red cat", "reward": 1.0}, {"text": "the city at night"}, {"text": "a dog", "reward": -1.0}]
    place = Path(folder_paths.get_input_directory()) / "prompts.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(rows))
    return place


@pytest.fixture
def clip(tmp_path: Path) -> hosting.RewardModel:
    return hosting.host(load_scorer(write_clip(tmp_path / "clip"), device="cpu"), torch.device("cpu"))


def suggest(model: hosting.RewardModel, topic: str, **more: object) -> dict:
    settings = {"library": "prompts.json", "count": 5, "min_reward": -100.0, "distinct": 1.0, **more}
    return run(SuggestPrompts, reward_model=model, topic=topic, **settings)


def test_the_most_similar_first_and_only_those_with_the_reward(library: Path, clip: hosting.RewardModel) -> None:
    out = suggest(clip, "the city at night")
    assert out["prompts"][0] == "the city at night"
    assert out["similarities"][0] == pytest.approx(1.0, abs=1e-4)
    assert sorted(out["prompts"]) == ["a dog", "a red cat", "the city at night"]
    assert suggest(clip, "the city at night", min_reward=0.0)["prompts"] == ["a red cat"]
    with pytest.raises(ImageRewardError, match="known reward of at least 7"):
        suggest(clip, "x", min_reward=7.0)


def test_libraries_are_those_of_the_input_folder(library: Path, clip: hosting.RewardModel) -> None:
    with pytest.raises(ImageRewardError, match="No library"):
        suggest(clip, "x", library="../prompts.json")
    before = SuggestPrompts.fingerprint_inputs("prompts.json", topic="x")
    library.write_text(json.dumps(["another"]))
    assert SuggestPrompts.fingerprint_inputs("prompts.json", topic="x") != before
    assert suggest(clip, "x")["prompts"] == ["another"]


def test_a_model_without_a_text_tower_is_refused(library: Path, model: hosting.RewardModel) -> None:
    with pytest.raises(ImageRewardError, match="has no text embedding"):
        suggest(model, "x")


def test_stop_stops_the_embedding(library: Path, clip: hosting.RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_management, "throw_exception_if_processing_interrupted", stop)
    with pytest.raises(KeyboardInterrupt):
        suggest(clip, "x")
