"""Prompts of a library and scored files of a folder, on a real server; both lists are read anew at each run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hosts.comfyui.graphs import Graph, load, node, score, scored, see
from hosts.comfyui.server import Server
from scorer_checkpoints import write_clip


@pytest.fixture(scope="module")
def library(base: Path) -> str:
    write_clip(base / "models" / "ImageReward", name="tiny-clip.safetensors")
    rows = [{"text": "a red cat", "reward": 1.0}, {"text": "the city at night"}, {"text": "a dog", "reward": -1.0}]
    (base / "input" / "prompts.json").write_text(json.dumps(rows))
    return "prompts.json"


def suggest(library: str, topic: str, **more: object) -> Graph:
    settings = {"library": library, "count": 5, "min_reward": -100.0, "distinct": 1.0, **more}
    return {
        "1": load("tiny-clip.safetensors"),
        "2": node("SDImageRewardSuggestPrompts", reward_model=["1", 0], topic=topic, **settings),
        "3": see("2", 0),
    }


def test_suggested_prompts_go_one_by_one_to_the_nodes_behind(server: Server, base: Path, library: str) -> None:
    run = server.run(suggest(library, "the city at night"))
    assert run.status == "execution_success", run.events[-1:] or run.node_errors
    assert run.outputs["3"]["seen"][0] == "the city at night"
    assert sorted(run.outputs["3"]["seen"]) == ["a dog", "a red cat", "the city at night"]
    assert server.run(suggest(library, "a topic", min_reward=0.0)).outputs["3"]["seen"] == ["a red cat"]
    (base / "input" / library).write_text(json.dumps(["another"]))
    assert server.run(suggest(library, "the city at night")).outputs["3"]["seen"] == ["another"]


def test_a_scorer_without_text_embeddings_says_so(server: Server, library: str) -> None:
    run = server.run({**suggest(library, "a cat"), "1": load()})
    assert run.status == "execution_error"
    assert "has no text embedding" in run.error


def test_what_save_wrote_is_loaded_best_first_and_scored_again_alike(server: Server, base: Path) -> None:
    settings = {"filename_prefix": "scored/p", "format": "PNG", "quality": 95}
    saved = server.run(
        {**scored(count=4, seed=31), "4": node("SDImageRewardSave", image=["2", 0], scores=["3", 1], **settings)}
    )
    assert saved.status == "execution_success", saved.events[-1:] or saved.node_errors
    choice = {"folder": "output/scored", "min_score": -100.0, "best_n": 3, "sort": "best first", "score_name": ""}
    run = server.run(
        {
            "1": load(),
            "2": node("SDImageRewardLoadScored", **choice),
            "3": score(prompt=["2", 2]),
            "4": see("3", 2),
            "5": node("SDImageRewardScoreTable", scores=["2", 1]),
            "6": node("SaveImage", images=["5", 0], filename_prefix="table"),
        }
    )
    assert run.status == "execution_success", run.events[-1:] or run.node_errors
    best = sorted(saved.outputs["3"]["scores"], reverse=True)[:3]
    assert run.outputs["4"]["seen"] == pytest.approx(best, abs=1e-4)


def test_a_folder_above_is_refused(server: Server) -> None:
    choice = {"folder": "output/../..", "min_score": -100.0, "best_n": 3, "sort": "best first", "score_name": ""}
    run = server.run({"2": node("SDImageRewardLoadScored", **choice), "3": see("2", 3)})
    assert run.status == "refused" or "not found" in run.error
