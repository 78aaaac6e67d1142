"""Rank, Filter, Pick Best and Pick from List."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from run_node import PROMPT, is_blocked, run
from sd_imagereward.comfyui_nodes import hosting
from sd_imagereward.comfyui_nodes.nodes.filter import FilterImages
from sd_imagereward.comfyui_nodes.nodes.pick_best import PickBest
from sd_imagereward.comfyui_nodes.nodes.pick_from_list import PickFromList
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
            ({}, r"connect 'scores', or 'reward_model' and 'prompt'\..*bypassed"),
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

    def test_a_third_way_for_the_great(self) -> None:
        latent = {"samples": torch.arange(4).float().view(4, 1, 1, 1)}
        out = run(FilterImages, image=numbered(), scores=scores(), latent=latent, threshold=0.0, great_threshold=0.5)
        for side, positions in {"great": [0, 2], "kept": [3], "rejected": [1]}.items():
            assert stood(out[f"{side}_images"]) == out[f"{side}_positions"] == positions
            assert out[f"{side}_scores"].total == tuple(VALUES[i] for i in positions)
            assert out[f"{side}_latents"][0]["batch_index"] == positions
            assert out[f"{side}_count"] == len(positions)

    def test_without_a_second_threshold_nothing_is_great(self) -> None:
        out = run(FilterImages, image=numbered(), scores=scores((500.0, 1.0, -1.0, 0.0)), threshold=0.0)
        assert out["kept_positions"] == [0, 1, 3]
        assert out["great_count"] == 0
        assert is_blocked(out["great_images"])
        assert is_blocked(out["great_positions"])

    def test_keep_at_least_counts_the_great(self) -> None:
        out = run(FilterImages, image=numbered(), scores=scores(), threshold=1.0, great_threshold=1.0, keep_at_least=2)
        assert (out["great_positions"], out["kept_positions"], out["rejected_positions"]) == ([2], [0], [1, 3])

    def test_a_second_threshold_below_the_first_is_refused(self) -> None:
        with pytest.raises(ImageRewardError, match=r"'great_threshold' \(-1\) is below 'threshold' \(0.5\)"):
            run(FilterImages, image=numbered(), scores=scores(), threshold=0.5, great_threshold=-1.0)

    def test_images_without_a_score_are_rejected(self) -> None:
        nan = math.nan
        none = run(FilterImages, image=numbered(2), scores=scores((nan, nan)), threshold=-100.0, keep_at_least=2)
        assert none["kept_count"] == 0
        assert none["rejected_positions"] == [0, 1]
        some = run(FilterImages, image=numbered(3), scores=scores((nan, -5.0, nan)), keep_at_least=2)
        assert (some["kept_positions"], some["rejected_positions"]) == ([1], [0, 2])

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

    def test_an_image_without_a_score_never_wins(self) -> None:
        assert run(PickBest, image=numbered(3), scores=scores((math.nan, -3.0, math.nan)))["index"] == 1

    def test_without_any_score_all_outputs_are_blocked_with_a_message(self) -> None:
        out = run(PickBest, image=numbered(), scores=scores((math.nan,) * 4))
        assert out.pop("ui") is None
        for value in out.values():
            assert is_blocked(value)
            assert "no best image: expected a score that is a number, got NaN for 4 images" in value.message


SEG = "a segment"
SEGS = ((64, 64), [f"{SEG} {i}" for i in range(4)])


class TestPickFromList:
    def pick(self, items: Any, positions: list[int]) -> list[Any]:
        picked: list[Any] = run(PickFromList, items=items, positions=positions)["picked"]
        return picked

    def test_a_list_of_anything_by_element(self) -> None:
        texts = ["a", "b", "c", "d"]
        assert self.pick(texts, ORDER) == ["c", "a", "d", "b"]
        assert self.pick([SEGS, ((1, 1), []), SEGS], [2, 1]) == [SEGS, ((1, 1), [])]
        assert self.pick([7, None, 9], [2]) == [9]
        assert self.pick(texts, [1, 1]) == ["b", "b"]

    def test_a_batch_stays_a_batch(self) -> None:
        images = self.pick(numbered(), ORDER)
        assert len(images) == 1
        assert stood(images) == ORDER
        (latent,) = self.pick({"samples": torch.arange(4).float().view(4, 1, 1, 1)}, ORDER)
        assert latent["batch_index"] == ORDER
        (audio,) = self.pick({"waveform": torch.arange(4).float().view(4, 1, 1), "sample_rate": 44100}, ORDER)
        assert audio["waveform"].flatten().tolist() == ORDER
        assert audio["sample_rate"] == 44100
        (some,) = self.pick(scores(), [2, 0])
        assert some.total == (2.0, 0.5)

    def test_several_batches_are_one_row(self) -> None:
        picked = self.pick([numbered()[:3], numbered()[3:]], [3, 0])
        assert [tuple(image.shape) for image in picked] == [(1, 2, 2, 3)] * 2
        assert stood(picked) == [3, 0]

    def test_segs_and_python_lists_that_come_alone(self) -> None:
        assert self.pick(SEGS, [2, 0]) == [((64, 64), [f"{SEG} 2", f"{SEG} 0"])]
        assert self.pick([["a", "b", "c"]], [2, 0]) == [["c", "a"]]
        assert self.pick(("a", "b", "c"), [1]) == [("b",)]

    def test_one_conditioning_mask_or_text_is_one_item(self) -> None:
        (two_prompts,) = [[*conditionings(1)[0], *conditionings(1)[0]]]
        for one in (two_prompts, torch.zeros(3, 3), "text", {"a": 1}):
            assert self.pick([one], [0]) == [one]
            with pytest.raises(ImageRewardError, match="no position 1 among 1 item,"):
                self.pick([one], [1])

    def test_conditionings_in_a_list_are_not_cut(self) -> None:
        rows = conditionings(4)
        assert [one[0][0] for one in self.pick(rows, ORDER)] == [rows[i][0][0] for i in ORDER]

    @pytest.mark.parametrize(
        ("items", "positions", "said"),
        [
            (["a", "b"], [0, 2], "no position 2 among 2 items"),
            (["a", "b"], [-1], "no position -1 among 2 items"),
            (numbered(), [4], "no position 4 among 4 items"),
            (((64, 64), []), [0], "no position 0 among 0 items"),
            (["a", "b"], [0.5], "Positions are whole numbers"),
        ],
    )
    def test_errors_say_what_came(self, items: Any, positions: list[Any], said: str) -> None:
        with pytest.raises(ImageRewardError, match=said):
            self.pick(items, positions)

    def test_takes_the_positions_of_rank_filter_and_pick_best(self) -> None:
        texts = [f"prompt {i}" for i in range(4)]
        given = {"image": numbered(), "scores": scores()}
        assert self.pick(texts, run(RankImages, **given, top=2)["positions"]) == ["prompt 2", "prompt 0"]
        assert self.pick(texts, run(FilterImages, **given)["rejected_positions"]) == ["prompt 1"]
        assert self.pick(texts, [run(PickBest, **given)["index"]]) == ["prompt 2"]
