"""ComfyUI started in other ways: little memory, no cache, odd folder names, two copies of the pack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hosts.comfyui.conftest import REPOSITORY, Start, furnish
from hosts.comfyui.graphs import PROMPT, Graph, node, scored, see
from hosts.comfyui.test_dynamic import expect_dynamic_vram
from hosts.comfyui.test_refl import drawn
from hosts.comfyui.test_scenes import save, scores_of
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.score import score_images

STATES = ["NORMAL_VRAM", "LOW_VRAM", "NO_VRAM", "DYNAMIC"]


@pytest.mark.parametrize("flag", ["--cache-none", "--disable-metadata"])
def test_scores_are_the_same(base: Path, start: Start, flag: str) -> None:
    with start(base, flag) as server:
        graph = {**scored(size=40, seed=90), "4": save(["3", 0], ["3", 1], filename_prefix="flags/a"), "5": see("3", 2)}
        run, again = server.run(graph), server.run(graph)
        files = [server.file(one) for one in run.outputs["4"]["images"]]
        assert "Traceback" not in server.log()
    scorer = load_scorer(base / "models" / "ImageReward" / "tiny.pt", device="cpu")
    torch.testing.assert_close(
        torch.tensor(run.outputs["5"]["seen"]), score_images(scorer, files, PROMPT).total, atol=1e-4, rtol=0
    )
    assert again.outputs["5"] == run.outputs["5"]


@pytest.mark.parametrize("state", STATES)
def test_the_reward_model_leaves_when_a_checkpoint_needs_the_room(
    comfyui: Path, base: Path, start: Start, state: str
) -> None:
    """On a device that holds either the reward model or the diffusion model, not both."""
    if state == "DYNAMIC":
        expect_dynamic_vram(comfyui)
    with start(base, TINY_GPU_BYTES="1000000", TINY_GPU_STATE=state) as server:
        first = scores_of(server.run(scored(seed=91)))
        assert server.get("/tiny")["loaded"] == ["ImageRewardNetwork"]
        sampled = server.run(sampling())
        assert sampled.status == "execution_success", sampled.error
        assert "ImageRewardNetwork" not in server.get("/tiny")["loaded"]
        assert server.get("/tiny")["features"] == 0
        assert scores_of(server.run({**scored(seed=91), "5": save(["3", 0], ["3", 1])})) == first
        assert len(set(scores_of(server.run(scored(seed=92))))) == 4
        assert "ImageRewardNetwork" in server.get("/tiny")["loaded"]


def sampling() -> Graph:
    return {"9": node("TinyCheckpoint", seed=0), **drawn(["9", 0])}


def test_two_copies_in_folders_with_odd_names(tmp_path: Path, start: Start) -> None:
    """One of them twice in custom_nodes, and installed by pip as well."""
    base = furnish(tmp_path / "Комфи UI", "image reward für alle", "sd-imagereward")
    installed = tmp_path / "site"
    installed.mkdir()
    (installed / "sd_imagereward").symlink_to(REPOSITORY, target_is_directory=True)
    with start(base, PYTHONPATH=str(installed)) as server:
        assert len(scores_of(server.run({**scored(seed=93), "4": save(["3", 0], ["3", 1])}))) == 4
        log = server.log()
    assert not re.search(r"IMPORT FAILED|Traceback|comfy_entrypoint", log)
