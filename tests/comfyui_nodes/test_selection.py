"""Rank, Filter and Pick Best."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from run_node import PROMPT, is_blocked, run
from sd_imagereward.comfyui_nodes import hosting
from sd_imagereward.comfyui_nodes.nodes.filter import FilterImages
from sd_imagereward.comfyui_nodes.nodes.pick_best import PickBest
from sd_imagereward.comfyui_nodes.nodes.rank import RankImages
from sd_imagereward.comfyui_nodes.scores import Scores
from sd_imagereward.core.errors import ImageRewardError

VALUES = (0.5, -1.0, 2.0, 0.0)
ORDER = [2, 0, 3, 1]


def scores(values: tuple[float, ...] = VALUES) -> Scores:
    prompts = tuple(f"prompt {i}" for i in range(len(values)))
    return Scores("ImageReward", values, {"part": tuple(v * 2 for v in values)}, prompts, {1: "black image"})


def numbered(n: int = 4) -> torch.Tensor:
    """IMAGE whose every pixel says where it stood."""
    return torch.arange(n).float().view(n, 1, 1, 1).expand(n, 2, 2, 3) / 10


def stood(images: list[torch.Tensor]) -> list[int]:
    return [round(float(image[0, 0, 0]) * 10) for batch in images for image in batch]


def conditionings(n: int) -> list[Any]:
    return [[[torch.full((1, 7, 8), float(i)), {"pooled_output": None}]] for i in range(n)]


class TestRank:
    def test_a_batch_best_first(self) -> None:
        out = run(RankImages, image=numbered(), scores=scores())
        assert len(out["images"]) == 1
        assert stood(out["images"]) == ORDER == out["positions"]
        assert out["scores"].total == (2.0, 0.5, 0.0, -1.0)
        assert out["scores"].prompts == ("prompt 2", "prompt 0", "prompt 3", "prompt 1")
        assert out["scores"].components["part"] == (4.0, 1.0, 0.0, -2.0)
        assert out["scores"].notes == {3: "black image"}

    def test_top(self) -> None:
        assert stood(run(RankImages, image=numbered(), scores=scores(), top=2)["images"]) == [2, 0]

    def test_a_list_of_unequal_sizes_becomes_a_list(self) -> None:
        images = [numbered()[i : i + 1].repeat(1, 1 + i, 2, 1) for i in range(4)]
        out = run(RankImages, image=images, scores=scores())
        assert [tuple(image.shape) for image in out["images"]] == [(1, 2 * (1 + i), 4, 3) for i in ORDER]
        assert stood(out["images"]) == ORDER

    def test_latents_masks_and_conditioning_follow(self) -> None:
        latent = {"samples": torch.arange(4).float().view(4, 1, 1, 1), "noise_mask": torch.arange(4).view(4, 1, 1)}
        out = run(
            RankImages,
            image=numbered(),
            scores=scores(),
            latent=latent,
            mask=torch.arange(4).float().view(4, 1, 1),
            condition=conditionings(4),
        )
        assert out["latents"][0]["samples"].flatten().tolist() == ORDER
        assert out["latents"][0]["noise_mask"].flatten().tolist() == ORDER
        assert out["latents"][0]["batch_index"] == ORDER
        assert out["masks"][0].flatten().tolist() == ORDER
        assert [int(one[0][0][0, 0, 0]) for one in out["conditioning"]] == ORDER

    def test_one_mask_and_one_conditioning_are_for_all(self) -> None:
        mask, condition = torch.ones(1, 2, 2), conditionings(1)
        out = run(RankImages, image=numbered(), scores=scores(), mask=mask, condition=condition, top=2)
        assert out["masks"] == [mask]
        assert out["conditioning"] == condition

    def test_what_is_not_connected_is_blocked_with_a_message(self) -> None:
        out = run(RankImages, image=numbered(), scores=scores())
        for name in ("latents", "masks", "conditioning"):
            assert is_blocked(out[name])
            assert name in out[name].message

    def test_numbers_of_other_packs_will_do(self) -> None:
        out = run(RankImages, image=numbered(), scores=[float(v) for v in VALUES])
        assert out["positions"] == ORDER
        assert out["scores"].title == "Reward"

    def test_nan_comes_last(self) -> None:
        out = run(RankImages, image=numbered(3), scores=scores((math.nan, 1.0, 2.0)))
        assert out["positions"] == [2, 1, 0]

    def test_scores_by_itself_with_a_reward_model(
        self, model: hosting.RewardModel, pictures: Any, scored: list[int]
    ) -> None:
        batch = pictures(4)
        first = run(RankImages, image=batch, reward_model=model, prompt=PROMPT)
        assert list(first["scores"].total) == sorted(first["scores"].total, reverse=True)
        again = run(RankImages, image=batch, reward_model=model, prompt=PROMPT, top=2)
        assert again["positions"] == first["positions"][:2]
        assert sum(scored) == 4

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({}, "connect 'scores', or 'reward_model' and 'prompt'"),
            ({"scores": scores((1.0, 2.0))}, "2 scores for 4 images"),
            ({"scores": ["good"]}, "got str"),
            ({"scores": scores(), "latent": {"samples": torch.zeros(3, 4, 1, 1)}}, "3 latents for 4 images"),
            ({"scores": scores(), "mask": torch.zeros(2, 2, 2)}, "2 masks for 4 images"),
            ({"scores": scores(), "condition": conditionings(2)}, "2 conditionings for 4 images"),
        ],
    )
    def test_errors_say_what_came(self, more: dict[str, Any], said: str) -> None:
        with pytest.raises(ImageRewardError, match=said):
            run(RankImages, image=numbered(), **more)

    def test_scores_of_two_models_are_not_mixed_up(self) -> None:
        other = Scores("HPSv2", (1.0, 2.0))
        with pytest.raises(ImageRewardError, match="ImageReward, HPSv2"):
            run(RankImages, image=numbered(), scores=[scores((1.0, 2.0)), other])

    def test_scores_of_several_score_nodes_are_joined(self) -> None:
        out = run(RankImages, image=numbered(), scores=[scores(VALUES[:2]), scores(VALUES[2:])])
        assert out["positions"] == ORDER
        assert out["scores"].notes == {2: "black image", 3: "black image"} or 1 in out["scores"].notes


class TestFilter:
    def test_components_in_the_order_given(self) -> None:
        latent = {"samples": torch.arange(4).float().view(4, 1, 1, 1)}
        out = run(FilterImages, image=numbered(), scores=scores(), latent=latent, threshold=0.0)
        assert stood(out["kept_images"]) == [0, 2, 3]
        assert stood(out["rejected_images"]) == [1]
        assert out["kept_scores"].total == (0.5, 2.0, 0.0)
        assert out["rejected_scores"].total == (-1.0,)
        assert out["kept_latents"][0]["samples"].flatten().tolist() == [0, 2, 3]
        assert out["rejected_latents"][0]["batch_index"] == [1]
        assert out["kept_count"] == 3

    def test_a_side_without_images_is_skipped(self) -> None:
        nobody = run(FilterImages, image=numbered(), scores=scores(), threshold=9.0)
        assert nobody["kept_count"] == 0
        for name in ("images", "scores", "latents", "masks", "conditioning"):
            assert is_blocked(nobody[f"kept_{name}"])
            assert nobody[f"kept_{name}"].message is None
        assert stood(nobody["rejected_images"]) == [0, 1, 2, 3]
        everybody = run(FilterImages, image=numbered(), scores=scores(), threshold=-9.0)
        assert is_blocked(everybody["rejected_images"])

    def test_keeps_at_least(self) -> None:
        out = run(FilterImages, image=numbered(), scores=scores(), threshold=9.0, keep_at_least=2)
        assert stood(out["kept_images"]) == [0, 2]

    def test_another_threshold_scores_nothing(
        self, model: hosting.RewardModel, pictures: Any, scored: list[int]
    ) -> None:
        for threshold in (-5.0, 0.0, 5.0):
            run(FilterImages, image=pictures(4), reward_model=model, prompt=PROMPT, threshold=threshold)
        assert sum(scored) == 4


class TestPickBest:
    def test_one_of_each(self) -> None:
        latent = {"samples": torch.arange(4).float().view(4, 1, 1, 1)}
        mask = torch.arange(4).float().view(4, 1, 1)
        out = run(PickBest, image=numbered(), scores=scores(), latent=latent, mask=mask, condition=conditionings(4))
        assert stood([out["best_image"]]) == [2]
        assert (out["score"], out["index"]) == (2.0, 2)
        assert out["best_latent"]["samples"].flatten().tolist() == [2]
        assert out["best_latent"]["batch_index"] == [2]
        assert out["best_mask"].flatten().tolist() == [2]
        assert int(out["conditioning"][0][0][0, 0, 0]) == 2
        assert out["best_scores"].prompts == ("prompt 2",)
        assert out["ui"]["scores"] == [2.0]

    def test_of_a_list_of_unequal_sizes(self) -> None:
        images = [numbered()[i : i + 1].repeat(1, 1 + i, 2, 1) for i in range(4)]
        latents = [{"samples": torch.full((1, 4, 1 + i, 1), float(i))} for i in range(4)]
        out = run(PickBest, image=images, scores=scores(), latent=latents)
        assert out["best_image"].shape == (1, 6, 4, 3)
        assert out["best_latent"]["samples"].shape == (1, 4, 3, 1)
