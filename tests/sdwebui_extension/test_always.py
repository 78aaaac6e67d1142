"""The setting that scores every image, whichever script is chosen, and the door when there are two copies."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sd_imagereward.core.metadata import read_scores
from sd_imagereward.core.scorers.loading import loaded_scorers

ROOT = Path(__file__).resolve().parents[2]


def scores(host: SimpleNamespace, p: Any) -> list[dict[str, float]]:
    return [read_scores(text) for text in host.processing.process_images(p).infotexts]


def test_off_nothing_is_scored(host: SimpleNamespace, p: Any) -> None:
    assert scores(host, p) == [{}] * 5


def test_on_each_image_has_a_score_and_the_grid_none(host: SimpleNamespace, p: Any) -> None:
    host.shared.opts.data["image_reward_always"] = True
    grid, *images = scores(host, p)
    assert grid == {}
    assert all(one.keys() == {"ImageReward"} for one in images)
    assert len({one["ImageReward"] for one in images}) == 4
    assert p.extra_generation_params == {}
    assert host.scripts.errors == []


def test_the_parameters_name_no_script_of_ours(host: SimpleNamespace, p: Any) -> None:
    host.shared.opts.data["image_reward_always"] = True
    p.extra_generation_params["Script"] = "Prompt matrix"
    texts = host.processing.process_images(p).infotexts
    assert all("Script: Prompt matrix" in text and "ImageReward scorer" not in text for text in texts)
    assert p.extra_generation_params == {"Script": "Prompt matrix"}


def test_the_chosen_script_goes_before(host: SimpleNamespace, run: Any) -> None:
    host.shared.opts.data["image_reward_always"] = True
    processed = run(sort=True)
    found = [read_scores(text)["ImageReward"] for text in processed.infotexts[1:]]
    assert found == sorted(found, reverse=True)


def test_the_model_goes_where_the_settings_say(host: SimpleNamespace, p: Any) -> None:
    host.shared.opts.data |= {"image_reward_always": True, "image_reward_after": "Unload"}
    scores(host, p)
    assert loaded_scorers() == []


def test_a_second_copy_names_both_folders(host: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "copy" / "scripts")
    with pytest.raises(RuntimeError, match="installed twice") as told:
        runpy.run_path(str(tmp_path / "copy" / "scripts" / "image_reward.py"))
    assert str(tmp_path / "copy") in str(told.value)
    assert str(ROOT) in str(told.value)
