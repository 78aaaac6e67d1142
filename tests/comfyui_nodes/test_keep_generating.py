"""The judge and the graph of the next try. What a host makes of them: tests/hosts/comfyui/test_keep_generating.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import pytest
import torch
from comfy_api.latest import io
from run_node import PROMPT, is_blocked, run
from sd_imagereward.comfyui_nodes import saving, tries
from sd_imagereward.comfyui_nodes.nodes.keep_generating import JudgeTry, KeepGenerating, NextTry, SeedOfEachTry
from sd_imagereward.comfyui_nodes.tries import Found, Goal, Start
from sd_imagereward.core.errors import ImageRewardError
from server import PromptServer

Pictures = Callable[..., torch.Tensor]

GRAPH: dict[str, Any] = {
    "1": {"class_type": SeedOfEachTry.__name__, "inputs": {"first_seed": 7}},
    "2": {"class_type": "Loader", "inputs": {}},
    "3": {"class_type": "Sampler", "inputs": {"model": ["2", 0], "seed": ["1", 0], "id": 4}},
    "4": {"class_type": "Words", "inputs": {"number": ["1", 1]}},
    "5": {"class_type": "Decode", "inputs": {"samples": ["3", 0], "vae": ["2", 2], "words": ["4", 0]}},
    "9": {"class_type": "End", "inputs": {"tries": ["1", 2], "image": ["5", 0], "prompt": ["4", 0], "until": 2}},
}


numbers = count()


class Graph:
    """The host's `dynprompt`."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        self.get_node = nodes.__getitem__


def found(tries: int = 0, **goal: Any) -> Found:
    """What a run of a graph of its own has found."""
    settings = {"until": 2, "threshold": 0.0, "maximum_tries": 4, **goal}
    return Found("9", Start("1", 7), Goal(**settings), f"graph {next(numbers)}", tries)


def judged(before: Found, image: torch.Tensor, scores: list[float]) -> Found:
    result: Found = run(JudgeTry, found=before, image=image, scores=scores)["found_now"]
    return result


def test_the_start_says_which_node_it_is() -> None:
    result = run(SeedOfEachTry, io.HiddenHolder(unique_id="1"), first_seed=7)
    assert (result["seed"], result["number"], result["tries"]) == (7, 1, Start("1", 7))


class TestTheGraphOfTheNextTry:
    def test_copies_what_lies_between_with_the_next_seed_and_nothing_else(self) -> None:
        graph, last = tries.next_try(GRAPH.__getitem__, found(tries=1))
        assert last == "9.try2.next"
        assert graph["9.try2.3"] == {
            "class_type": "Sampler",
            "inputs": {"model": ["2", 0], "seed": 8, "id": 4},
            "override_display_id": "3",
        }
        assert graph["9.try2.4"]["inputs"] == {"number": 2}
        assert graph["9.try2.5"]["inputs"] == {
            "samples": ["9.try2.3", 0],
            "vae": ["2", 2],
            "words": ["9.try2.4", 0],
        }
        assert graph["9.try2.judge"]["inputs"].keys() == {"found", "image", "prompt"}
        assert graph["9.try2.judge"]["inputs"]["prompt"] == ["9.try2.4", 0]
        assert graph.keys() == {f"9.try2.{name}" for name in ("3", "4", "5", "judge", "next")}

    def test_the_seed_after_the_largest_is_0(self) -> None:
        at_the_end = Found("9", Start("1", 2**64 - 1), Goal(1, 0.0, 4), "graph", 1)
        graph, _ = tries.next_try(GRAPH.__getitem__, at_the_end)
        assert graph["9.try2.3"]["inputs"]["seed"] == 0

    def test_images_that_do_not_depend_on_the_seed_are_refused(self) -> None:
        apart = {**GRAPH, "9": {"class_type": "End", "inputs": {"image": ["2", 0]}}}
        with pytest.raises(ImageRewardError, match="every try would be the same"):
            tries.open_run(apart.__getitem__, "9", Start("1", 7), Goal(1, 0.0, 4))

    def test_tries_must_come_from_the_start(self) -> None:
        with pytest.raises(ImageRewardError, match="got int"):
            tries.tries_of(3)


class TestJudging:
    def test_passing_images_are_kept_apart_from_their_batch(self, pictures: Pictures) -> None:
        batch = pictures(3)
        result = judged(found(), batch, [0.5, -1.0, 0.0])
        assert [one.score for one in result.kept] == [0.5, 0.0]
        for one, i in zip(result.kept, (0, 2), strict=True):
            assert torch.equal(one.image[0], batch[i])
            assert one.image.untyped_storage().nbytes() == batch[i].nelement() * 4
        assert [one.seed for one in result.kept] == [7, 7]

    def test_seeds_follow(self, pictures: Pictures) -> None:
        result = judged(judged(found(), pictures(1), [1.0]), pictures(1, seed=1), [2.0])
        assert [(one.seed, one.score) for one in result.winners()] == [(8, 2.0), (7, 1.0)]
        assert not result.wants_more

    def test_nan_never_passes_and_the_best_number_leads(self, pictures: Pictures) -> None:
        result = judged(found(threshold=-100.0), pictures(2), [math.nan, -200.0])
        assert not result.kept
        assert result.wants_more
        assert [one.score for one in result.winners()] == [-200.0]
        better = judged(result, pictures(1), [-150.0])
        worse = judged(better, pictures(1), [-180.0])
        assert [one.score for one in worse.winners()] == [-150.0]
        assert result.leader is worse.leader

    def test_all_nan_is_not_tried_again(self, pictures: Pictures) -> None:
        result = judged(found(), pictures(1), [math.nan])
        assert not result.wants_more
        assert all(map(is_blocked, tries.outputs(result)[:4]))

    def test_a_later_try_that_fails_loses_nothing(self, pictures: Pictures) -> None:
        first = judged(found(), pictures(1), [1.0])
        result = judged(first, pictures(2), [1.0])
        assert not result.wants_more
        assert len(result.winners()) == 1
        assert (
            "1 of 2 images pass after 2 tries. Try 2 failed (ImageRewardError: 1 score for 2 images" in result.report()
        )

    def test_a_first_try_that_fails_says_why(self, pictures: Pictures) -> None:
        with pytest.raises(ImageRewardError, match="1 score for 2 images"):
            judged(found(), pictures(2), [1.0])

    def test_interrupts_are_no_failures(self, pictures: Pictures, model: Any) -> None:
        first = judged(found(), pictures(1), [1.0])
        model_management.interrupted = True
        with pytest.raises(model_management.InterruptProcessingException):
            run(JudgeTry, found=first, image=pictures(1, seed=3), reward_model=model, prompt=PROMPT)

    def test_an_image_that_cannot_be_saved_is_kept(
        self, pictures: Pictures, base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(saving, "save", full)
        result = judged(found(save_prefix="a/b"), pictures(1), [1.0])
        assert len(result.kept) == 1
        assert "could not be saved (No space left on device)" in result.report()


class TestTheEnd:
    def hidden(self) -> io.HiddenHolder:
        return io.HiddenHolder(unique_id="9", dynprompt=Graph(GRAPH))

    def ended(self, image: torch.Tensor, scores: list[float], **more: Any) -> Found:
        """What the end hands to the node after it, at its first try."""
        inputs = {"tries": Start("1", 7), "image": image, "scores": scores, **more}
        clone = type("Clone", (KeepGenerating,), {"hidden": self.hidden()})
        given = {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}
        defaults = {one.id: [one.default] for one in KeepGenerating.define_schema().inputs if one.default is not None}
        result = clone.execute(**(defaults | given))
        assert result.expand is not None
        assert [link[1] for link in result.args] == list(range(len(KeepGenerating.define_schema().outputs)))
        (node,) = result.expand.values()
        passed_on: Found = node["inputs"]["found"]
        return passed_on

    def test_a_run_that_was_stopped_goes_on_where_it_was(self, pictures: Pictures) -> None:
        first = self.ended(pictures(1), [1.0], until=5)
        judged(judged(first, pictures(1, seed=1), [2.0]), pictures(1, seed=2), [-1.0])
        again = self.ended(pictures(1), [1.0], until=3)
        assert (again.tries, len(again.kept), again.goal.until) == (3, 2, 3)
        assert self.ended(pictures(1, seed=9), [1.0]).tries == 1  # other images: an input file has changed, say

    def test_a_run_that_has_ended_starts_anew(self, pictures: Pictures) -> None:
        first = self.ended(pictures(1), [1.0], until=2)
        run(NextTry, io.HiddenHolder(), found=judged(first, pictures(1, seed=1), [2.0]))
        assert self.ended(pictures(1), [1.0], until=2).tries == 1


class TestWhatTheUserSees:
    def test_text_and_images_as_they_come(self, pictures: Pictures) -> None:
        PromptServer.instance.texts.clear()
        first = judged(found(), pictures(1), [1.0])
        shown = run(NextTry, io.HiddenHolder(dynprompt=Graph(GRAPH)), found=first)["ui"]
        assert PromptServer.instance.texts == [("9", "ImageReward: 1 of 2 images pass, try 2")]
        assert len(shown["images"]) == 1
        last = run(NextTry, io.HiddenHolder(), found=judged(first, pictures(1, seed=1), [2.0]))
        assert last["text"] == "2 of 2 images pass after 2 tries."
        assert [last["passed"], last["tries_used"], last["seeds"]] == [2, 2, [8, 7]]
        assert last["ui"]["scores"] == [2.0, 1.0]
        assert is_blocked(last["latents"])

    def test_nothing_is_a_message_that_says_what_to_do(self, pictures: Pictures) -> None:
        nothing = judged(found(maximum_tries=1, if_none_pass=tries.NOTHING), pictures(1), [-1.0])
        last = run(NextTry, io.HiddenHolder(), found=nothing)
        assert is_blocked(last["images"])
        assert "The best score is -1.0000, the threshold 0. Lower 'threshold'" in last["images"].message
        assert last["passed"] == 0
