"""The parts of the trainer that need no networks, on stand-ins of ComfyUI."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch
from sd_imagereward.comfyui_nodes.nodes import train_refl_widgets
from sd_imagereward.comfyui_nodes.nodes.train_refl import TrainReflLora
from sd_imagereward.comfyui_nodes.nodes.train_refl_widgets import config_of
from sd_imagereward.comfyui_nodes.refl import lora_paths, memory, prompts, samplers
from sd_imagereward.comfyui_nodes.refl.conditioning import EncodedPrompts, join, plain_copy
from sd_imagereward.comfyui_nodes.refl.results import GAP, Memo, before_and_after, summary
from sd_imagereward.core.errors import ImageRewardError, OutOfMemory
from sd_imagereward.core.refl.data import RunInputs
from sd_imagereward.core.refl.families import FAMILIES
from sd_imagereward.core.refl.guard import Evaluation
from sd_imagereward.core.refl.lora_files import LoraRecord
from sd_imagereward.core.refl.result import ReflResult

SHOWN = (
    *("prompts", "prompts_file", "steps", "learning_rate", "rank"),
    *("resolution", "batch_size", "accumulation", "seed", "file_name"),
)


def test_ten_widgets_are_shown_and_the_others_advanced() -> None:
    shown = [one.id for one in train_refl_widgets.inputs() if one.default is not None and not one.advanced]
    assert tuple(shown) == SHOWN


def widgets(**changes: Any) -> dict[str, list[Any]]:
    given = {one.id: [one.default] for one in TrainReflLora.define_schema().inputs if one.default is not None}
    return {**given, "prompts": ["a cat\n\n a dog "], **{name: [value] for name, value in changes.items()}}


def result_of(**record: Any) -> ReflResult:
    """Of a run of 6 updates with the given words in its LoRA's record."""
    evaluations = [
        Evaluation(0, 1.0, (1.0,), {"CLIP": (3.0,), "Taste": (5.0,)}, (0.5,)),
        Evaluation(5, 1.0, (2.0,), {"CLIP": (4.0,), "Taste": (6.0,)}, (0.4,)),
    ]
    family, size, prompts = FAMILIES["sd1"], (512, 512), ("a cat",)
    return ReflResult(
        updates=6,
        ended="finished",
        records=[{"update": n + 1, "reward": 0.0} for n in range(6)],
        evaluations=evaluations,
        best=evaluations[1],
        improved=True,
        sweep=[],
        before=None,
        after=None,
        prompts=["a cat"],
        lora=None,
        record=LoraRecord("refl", family, False, size, "model", "ImageReward", 6, 1e-4, 0, prompts, **record),
    )


class TestPrompts:
    def test_one_a_line_from_every_text_and_the_file(self, base: Path) -> None:
        (base / "input" / "more.txt").write_text("a house\nthe sea\n")
        found = prompts.gather(["a cat\n\n  a dog ", "a bird"], "more.txt")
        assert found == ("a cat", "a dog", "a bird", "a house", "the sea")

    def test_only_readable_files_are_offered(self, base: Path) -> None:
        for name in ("a.txt", "b.JSONL", "c.png"):
            (base / "input" / name).write_text("x")
        assert prompts.prompt_files() == ["[None]", "a.txt", "b.JSONL"]

    def test_none_at_all(self) -> None:
        with pytest.raises(ImageRewardError, match="No prompts: write one a line"):
            prompts.gather([" \n "])

    def test_a_path_out_of_the_folder_is_no_file(self) -> None:
        with pytest.raises(ImageRewardError, match=r"No file '\.\./secret\.txt'"):
            prompts.gather([], "../secret.txt")


class TestFiles:
    def test_nothing_is_overwritten(self) -> None:
        first = lora_paths.free_path("mine/refl")
        assert first == Path(folder_paths.get_folder_paths("loras")[0]) / "mine" / "refl.safetensors"
        first.parent.mkdir(parents=True)
        first.touch()
        assert lora_paths.shown_name(lora_paths.free_path("mine/refl.safetensors")) == "mine/refl_2.safetensors"

    @pytest.mark.parametrize("name", ["", "../out", "a/../../b", "/root", "a\\b", "what?", "..", "a//b"])
    def test_names_that_lead_elsewhere_are_refused(self, name: str) -> None:
        with pytest.raises(ImageRewardError, match="no name for a file"):
            lora_paths.free_path(name)


class TestConfig:
    def test_the_widgets_are_the_settings(self) -> None:
        config = config_of(widgets(steps=3, rank=4, resolution=256, cfg=2.0, evaluation_cfg=6.0))
        assert (config.prompts, config.steps, config.lora_rank) == (("a cat", "a dog"), 3, 4)
        assert (config.width, config.height, config.guidance) == (256, 256, 2.0)
        assert config.evaluation_guidance == 6.0
        assert (config.lora_alpha, config.lora_from, config.output) == (None, "", "")

    def test_defaults_are_the_papers(self) -> None:
        config = config_of(widgets())
        assert (config.denoising_steps, config.stop_window, config.gradient_steps) == (40, (30, 39), 1)
        assert (config.threshold, config.scale, config.guidance) == (2.0, 1e-3, 1.0)
        assert config.evaluation_guidance is None  # what is usual for the model

    def test_the_sweep_can_be_left_out(self) -> None:
        assert config_of(widgets()).sweep
        assert not config_of(widgets(sweep=False)).sweep

    def test_a_window_outside_the_steps(self) -> None:
        with pytest.raises(ImageRewardError, match=r"stop_window is 30\.\.9"):
            RunInputs.read(config_of(widgets(denoising_steps=10)))


@pytest.mark.parametrize(
    ("strength", "reason", "end"),
    [
        (0.7, "highest reward", "recommended strength 0.7 (highest reward)"),
        (None, "the strength was not swept", "the strength was not swept"),
    ],
)
def test_what_the_node_says_at_the_end(strength: float | None, reason: str, end: str) -> None:
    begins = (
        "refl.safetensors: 6 updates, kept that after 5; on fixed pictures at guidance 7.5: reward +1.0000 -> +2.0000, "
        "held out CLIP +3.0000 -> +4.0000, held out Taste +5.0000 -> +6.0000, diversity 0.5000 -> 0.4000; "
    )
    result = result_of(evaluation_guidance=7.5, recommended_strength=strength, note=reason)
    assert summary(result, "refl.safetensors") == begins + end


def test_the_node_says_that_nothing_improved() -> None:
    result = replace(result_of(note="the reward is above at no strength"), improved=False)
    told = summary(result, "refl.safetensors")
    assert "the reward is above at no strength; the tuned model is no better than the untuned one" in told
    assert "recommended" not in told


class TestSamplers:
    def test_those_that_cannot_be_walked_are_not_offered(self) -> None:
        assert samplers.sampler_names() == ["euler", "euler_ancestral", "dpmpp_sde_gpu", "ddpm", "ddim"]

    @pytest.mark.parametrize("steps", [1, 3, 7, 40])
    @pytest.mark.parametrize("scheduler", ["simple", "ddim_uniform"])
    def test_as_many_levels_as_asked_falling_to_zero(self, scheduler: str, steps: int) -> None:
        levels = samplers.noise_levels(
            SimpleNamespace(sigmas=torch.linspace(0.03, 14.6, 1000)), "euler", scheduler, steps
        )
        assert len(levels) == steps + 1
        assert levels[-1] == 0
        assert (levels.diff() < 0).all()

    def test_gradient_passes_an_undecorated_sampler_and_equals_the_decorated_one(self) -> None:
        scale = torch.tensor(0.5, requires_grad=True)

        def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return x * scale

        start, sigmas = torch.ones(1, 4, 2, 2), torch.tensor([2.0, 1.0, 0.5])
        with torch.enable_grad():
            walked = samplers.advance("euler", model, start, sigmas, {}, lambda: start)
        walked.sum().backward()
        assert scale.grad is not None
        assert scale.grad != 0
        with torch.no_grad():
            assert torch.equal(walked, samplers.advance("euler", model, start, sigmas, {}, lambda: start))

    def test_a_sampler_without_gradient_is_refused(self) -> None:
        weight = torch.ones((), requires_grad=True)
        start = torch.ones(1, 4, 2, 2)
        with pytest.raises(ImageRewardError, match="'dpmpp_sde_gpu' lets no gradient through"):
            samplers.advance(
                "dpmpp_sde_gpu", lambda x, s: x * weight, start, torch.tensor([2.0, 1.0]), {}, lambda: start
            )

    def test_noise_comes_from_the_caller_alone(self) -> None:
        with torch.no_grad():
            out = samplers.advance(
                "euler_ancestral",
                lambda x, s: x * 0,
                torch.ones(1, 4, 2, 2),
                torch.tensor([2.0, 1.0]),
                {},
                lambda: torch.full((1, 4, 2, 2), 3.0),
            )
        assert torch.equal(out, torch.full((1, 4, 2, 2), 3.0))


class TestConditioning:
    def test_rows_of_a_batch_with_unequal_lengths(self) -> None:
        short, long = torch.rand(1, 2, 4), torch.rand(1, 3, 4)
        ((embeddings, options),) = join(
            [[[short, {"pooled_output": torch.ones(1, 4)}]], [[long, {"pooled_output": torch.zeros(1, 4)}]]]
        )
        assert embeddings.shape == (2, 6, 4)
        query = torch.rand(1, 5, 4)
        attend = torch.nn.functional.scaled_dot_product_attention
        torch.testing.assert_close(attend(query, embeddings[:1], embeddings[:1]), attend(query, short, short))
        torch.testing.assert_close(attend(query, embeddings[1:], embeddings[1:]), attend(query, long, long))
        assert options["pooled_output"].tolist() == [[1.0] * 4, [0.0] * 4]

    def test_a_scheduled_prompt_cannot_share_a_batch(self) -> None:
        one = [torch.rand(1, 2, 4), {}]
        with pytest.raises(ImageRewardError, match="set batch_size to 1"):
            join([[one, one], [one]])

    @pytest.mark.parametrize(
        ("other", "together"),
        [
            ([[torch.rand(1, 2, 4), {"pooled_output": torch.rand(1, 4), "area": 7}]], True),
            ([[torch.rand(1, 3, 4), {"pooled_output": torch.rand(1, 4)}]], False),
            ([[torch.rand(1, 2, 4), {"pooled_output": None}]], False),
            ([[torch.rand(1, 2, 4), {"pooled_output": torch.rand(1, 4)}]] * 2, False),
        ],
        ids=["alike", "longer", "not pooled", "scheduled"],
    )
    def test_prompts_that_a_batch_leaves_as_they_are(self, other: Any, together: bool) -> None:
        known = {"one": [[torch.rand(1, 2, 4), {"pooled_output": torch.rand(1, 4)}]], "other": other}
        clip = SimpleNamespace(tokenize=str, encode_from_tokens_scheduled=known.__getitem__)
        encoded = EncodedPrompts(clip)
        assert encoded.fit_together("one", "one")
        assert encoded.fit_together("one", "other") == together
        assert encoded.fit_together("other", "one") == together

    def test_copies_can_be_kept_for_a_backward_pass(self) -> None:
        with torch.inference_mode():
            given = [[torch.rand(1, 2, 4), {"pooled_output": torch.rand(1, 4), "area": (1, 2)}]]
        copied = plain_copy(given)
        assert not copied[0][0].is_inference()
        assert not copied[0][1]["pooled_output"].is_inference()
        assert copied[0][1]["area"] == (1, 2)


class TestMemory:
    def test_networks_born_under_inference_mode_become_trainable_with_the_same_bits(self) -> None:
        with torch.inference_mode():
            network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
        before = [tensor.clone() for tensor in network.state_dict().values()]
        with memory.training_mode():
            memory.make_trainable(network.eval())
            x = torch.rand(2, 3, requires_grad=True)
            network(x).sum().backward()
        assert x.grad is not None
        after = list(network.state_dict().values())
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_a_taint_that_moving_has_hidden_is_found(self) -> None:
        with torch.inference_mode():
            layer = torch.nn.Linear(3, 3)
        layer.to(torch.float64)
        layer.to(torch.float32)
        with memory.training_mode():
            memory.make_trainable(layer)
            x = torch.rand(2, 3, requires_grad=True)
            layer(x).sum().backward()
        assert x.grad is not None

    def test_the_hosts_switch_is_on_for_as_long_as_it_lasts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import comfy.model_management as model_management

        monkeypatch.setattr(model_management, "in_training", False, raising=False)  # 0.12 has none
        seen: list[bool] = []

        def stopped() -> None:
            with memory.training_mode():
                seen.append(model_management.in_training)
                raise ValueError("stopped")

        with pytest.raises(ValueError, match="stopped"):
            stopped()
        assert [*seen, model_management.in_training] == [True, False]

    def test_a_network_in_part_is_refused(self) -> None:
        from comfy.model_patcher import ModelPatcher

        network = torch.nn.Linear(2, 2)
        patcher = ModelPatcher(network, torch.device("meta"), torch.device("cpu"))
        with pytest.raises(OutOfMemory, match="only partly on meta"):
            memory._expect_whole(patcher)

    def test_out_of_memory_says_what_to_turn(self) -> None:
        import comfy.model_management as model_management

        with (
            pytest.raises(OutOfMemory, match="Out of memory: lower 'resolution'"),
            memory.explained_memory("lower 'resolution'"),
        ):
            raise model_management.OOM_EXCEPTION("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_pictures_before_and_after_stand_side_by_side() -> None:
    black, white = torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.full((2, 3, 4, 5), 255, dtype=torch.uint8)
    pairs = before_and_after(replace(result_of(), before=black, after=white))
    assert pairs.shape == (2, 4, 5 + GAP + 5, 3)
    assert (pairs[:, :, :5] == 0).all()
    assert (pairs[:, :, 5 + GAP :] == 1).all()


class TestMemo:
    class Thing:
        pass

    def test_the_same_objects_and_settings_are_remembered_and_no_others(self) -> None:
        memo: Memo[str] = Memo()
        one, other = self.Thing(), self.Thing()
        memo.put([one, None], ("a", 1), "made")
        assert memo.get([one, None], ("a", 1)) == "made"
        assert memo.get([other, None], ("a", 1)) is None
        assert memo.get([one, other], ("a", 1)) is None
        assert memo.get([one, None], ("a", 2)) is None

    def test_objects_are_not_kept_alive(self) -> None:
        memo: Memo[str] = Memo()
        one = self.Thing()
        seen = weakref.ref(one)
        memo.put([one], (), "made")
        del one
        gc.collect()
        assert seen() is None
        assert memo.get([None], ()) is None
        assert memo.get([self.Thing()], ()) is None

    def test_a_list_is_known_by_identity_too(self) -> None:
        memo: Memo[str] = Memo()
        negative = [["embeddings", {}]]
        memo.put([negative], (), "made")
        assert memo.get([negative], ()) == "made"
        assert memo.get([[["embeddings", {}]]], ()) is None
