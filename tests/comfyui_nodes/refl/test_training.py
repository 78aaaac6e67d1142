"""The node 'Train ReFL LoRA' from its inputs to the LoRA file, on the stand-ins; in tests/hosts the same on the host."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_management as model_management
import comfy.samplers
import comfy.sd
import comfy.utils
import pytest
import torch
from comfyui_scenes import Networks, bits, draw
from run_node import run
from safetensors import safe_open
from safetensors.torch import load_file
from sd_imagereward.comfyui_nodes.hosting import RewardModel, host
from sd_imagereward.comfyui_nodes.nodes import train_refl
from sd_imagereward.comfyui_nodes.refl.generator import ComfyGenerator
from sd_imagereward.comfyui_nodes.refl.stage import Stage
from sd_imagereward.core.errors import ImageRewardError, OutOfMemory
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scorers.mix import MixScorer

# One step from noise to picture, so that a few updates show.
QUICK: dict[str, Any] = {
    "prompts": ["a cat"],
    "steps": 6,
    "batch_size": 2,
    "accumulation": 1,
    "resolution": 64,
    "sampler": "euler",
    "denoising_steps": 1,
    "stop_first": 0,
    "stop_last": 0,
    "evaluate_every": 3,
    "evaluation_images": 2,
    "evaluation_cfg": 1.0,
    "learning_rate": 3e-3,
    "scale": 1.0,
    "threshold": 10.0,
    "rank": 4,
    "layers": "linear",
    "sweep": False,
}
KINDS = [("sd1", "sd_v1"), ("sd2", "sd_v2_v"), ("sdxl", "sdxl_base_v1-0"), ("sd3", "sd3"), ("flux", "flux1")]


def train(networks: Networks, reward: RewardModel, **changes: Any) -> dict[str, Any]:
    model, clip, vae = networks
    return run(train_refl.TrainReflLora, model=model, clip=clip, vae=vae, reward_model=reward, **{**QUICK, **changes})


def file_of(outputs: dict[str, Any], base: Path) -> Path:
    return base / "models" / "loras" / outputs["file"]


def metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as file:
        return dict(file.metadata())


class TestTrain:
    @pytest.mark.parametrize(("kind", "version"), KINDS)
    def test_reward_rises_base_stays_and_the_file_draws_what_the_output_draws(
        self, networks: Callable[..., Networks], model: RewardModel, base: Path, kind: str, version: str
    ) -> None:
        given = networks(kind)
        before, untuned = bits(given), draw(given)
        larger = {"batch_size": 4, "rank": 16} if kind == "flux" else {}
        outputs = train(given, model, file_name=f"round trip/{kind}", **larger)
        first, last = map(float, re.findall(r"reward ([-+.\d]+) -> ([-+.\d]+)", outputs["ui"]["text"][0])[0])
        assert last > first
        assert bits(given) == before
        assert torch.equal(draw(given), untuned)
        tuned = draw((outputs["tuned_model"], *given[1:]))
        assert not torch.equal(tuned, untuned)
        file = file_of(outputs, base)
        assert metadata(file)["ss_base_model_version"] == version
        loaded, _ = comfy.sd.load_lora_for_models(given[0], None, load_file(file), 1.0, 0.0)
        assert torch.equal(draw((loaded, *given[1:])), tuned)

    def test_what_the_other_outputs_are(
        self, networks: Callable[..., Networks], model: RewardModel, base: Path
    ) -> None:
        outputs = train(networks(), model, file_name="outputs")
        assert outputs["updates"] == len(outputs["loss_map"]["loss"]) == QUICK["steps"]
        assert outputs["before_after"].shape == (2, 64, 64 + 8 + 64, 3)
        assert outputs["curve"].shape[-1] == 3
        assert outputs["lora"].keys() == load_file(file_of(outputs, base)).keys()
        assert outputs["file"] == "outputs.safetensors"
        assert comfy.utils.shown == sorted(comfy.utils.shown)
        assert comfy.utils.shown[-1][0] == comfy.utils.shown[-1][1]
        assert all(image.size <= (512, 512) for _, image, _ in comfy.utils.previews)
        assert len(comfy.utils.previews) >= QUICK["steps"]

    @pytest.mark.parametrize(("kind", "cfg", "expected"), [("sd1", 0.0, 7.5), ("sd1", 3.0, 3.0), ("flux", 0.0, 1.0)])
    def test_fixed_pictures_are_drawn_at_the_cfg_that_people_draw_with(
        self,
        networks: Callable[..., Networks],
        model: RewardModel,
        base: Path,
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
        cfg: float,
        expected: float,
    ) -> None:
        seen: list[tuple[bool, float]] = []
        real = comfy.samplers.CFGGuider.set_cfg

        def noting(self: Any, cfg: float) -> None:
            seen.append((torch.is_grad_enabled(), cfg))
            real(self, cfg)

        monkeypatch.setattr(comfy.samplers.CFGGuider, "set_cfg", noting)
        outputs = train(networks(kind), model, file_name="guided", evaluation_cfg=cfg, cfg=1.5)
        assert set(seen) == {(True, 1.5), (False, expected)}
        assert metadata(file_of(outputs, base))["refl_evaluation_guidance"] == f"{expected:g}"
        assert f"on fixed pictures at guidance {expected:g}: " in outputs["ui"]["text"][0]

    def test_another_file_name_does_not_train_again(
        self, networks: Callable[..., Networks], model: RewardModel, base: Path, predictions: list[int]
    ) -> None:
        given = networks()
        one = train(given, model, file_name="one", steps=1)
        before = len(predictions)
        other = train(given, model, file_name="other", steps=1)
        assert len(predictions) == before
        first, second = (load_file(file_of(each, base)) for each in (one, other))
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert metadata(file_of(other, base))["ss_output_name"] == "other"

    def test_goes_on_from_a_lora_in_bfloat16_with_guidance(
        self, networks: Callable[..., Networks], model: RewardModel, base: Path
    ) -> None:
        given = networks()
        before = bits(given)
        first = train(given, model, file_name="start", steps=1)
        second = train(
            given,
            model,
            file_name="gone on",
            steps=2,
            continue_from="start.safetensors",
            dtype="bf16",
            cfg=2.0,
            denoising_steps=3,
            stop_first=1,
            stop_last=2,
            gradient_steps=2,
            prior_weight=0.1,
        )
        assert not any(given[0].is_clone(one.model) for one in model_management.current_loaded_models)
        assert given[0].model.manual_cast_dtype is None
        old, new = (load_file(file_of(each, base)) for each in (first, second))
        assert old.keys() == new.keys()
        assert metadata(file_of(second, base))["ss_network_dim"] == "4"
        assert any(not torch.equal(old[key], new[key]) for key in old if "lora_up" in key)
        assert bits(given) == before

    def test_the_sweep_recommends_a_strength(
        self, networks: Callable[..., Networks], model: RewardModel, base: Path
    ) -> None:
        outputs = train(networks(), model, file_name="swept", sweep=True)
        recommended = metadata(file_of(outputs, base))["refl_recommended_strength"]
        assert f"recommended strength {float(recommended):.1f}" in outputs["ui"]["text"][0]

    def test_scheduled_prompts_are_evaluated_one_by_one(
        self, networks: Callable[..., Networks], model: RewardModel, base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn: list[int] = []
        real = ComfyGenerator.denoise

        def counting(self: ComfyGenerator, prompts: Any, *args: Any) -> Any:
            drawn.append(len(prompts))
            return real(self, prompts, *args)

        monkeypatch.setattr(ComfyGenerator, "denoise", counting)
        given = networks()
        clip = given[1]
        encode = clip.encode_from_tokens_scheduled
        clip.encode_from_tokens_scheduled = lambda tokens: 2 * encode(tokens)
        train(given, model, steps=1, batch_size=1, evaluation_images=4)
        assert set(drawn) == {1}
        clip.encode_from_tokens_scheduled = encode
        train(networks(), model, steps=1, batch_size=1, evaluation_images=4)
        assert drawn[-1] == 4

    def test_an_evaluation_reserves_the_memory_of_an_update(
        self, networks: Callable[..., Networks], model: RewardModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reserved: list[int] = []
        real = Stage.begin

        def begin(self: Stage, width: int, height: int, batch: int) -> None:
            reserved.append(batch)
            real(self, width, height, batch)

        monkeypatch.setattr(Stage, "begin", begin)
        train(networks(), model, steps=1, evaluation_images=20, batch_size=2)
        # the probe, 16 pictures before the update and the 4 that are left, the update, and both once more
        assert reserved == [1, 2, 1, 2, 2, 1]


class TestStopped:
    @pytest.mark.parametrize("while_", ["denoising", "decoding"])
    def test_interrupt_holds_within_an_evaluation(
        self,
        networks: Callable[..., Networks],
        model: RewardModel,
        predictions: list[int],
        monkeypatch: pytest.MonkeyPatch,
        while_: str,
    ) -> None:
        decoded: list[int] = []
        real = ComfyGenerator.decode

        def decode(self: ComfyGenerator, latents: torch.Tensor) -> torch.Tensor:
            pixels = real(self, latents)
            decoded.append(len(latents))
            model_management.interrupted = while_ == "decoding"
            return pixels

        def predict(apply_model: Callable[..., torch.Tensor], call: dict[str, Any]) -> torch.Tensor:
            model_management.interrupted = while_ == "denoising" and len(predictions) == 3
            return apply_model(call["input"], call["timestep"], **call["c"])

        monkeypatch.setattr(ComfyGenerator, "decode", decode)
        given = networks()
        watched = given[0].clone()
        watched.set_model_unet_function_wrapper(predict)
        steps = {"batch_size": 1, "evaluation_images": 8, "denoising_steps": 6, "stop_first": 5, "stop_last": 5}
        with pytest.raises(model_management.InterruptProcessingException):
            train((watched, *given[1:]), model, **steps)
        if while_ == "denoising":
            assert len(predictions) == 4  # the one that was under way
            assert not decoded
        else:
            assert decoded == [1]

    def test_interrupt_holds_at_once_saves_the_lora_and_leaves_the_base(
        self, networks: Callable[..., Networks], model: RewardModel, base: Path, predictions: list[int]
    ) -> None:
        given = networks()
        before = bits(given)

        def predict(apply_model: Callable[..., torch.Tensor], call: dict[str, Any]) -> torch.Tensor:
            model_management.interrupted = len(predictions) == 40  # in the middle of a rollout
            return apply_model(call["input"], call["timestep"], **call["c"])

        watched = given[0].clone()
        watched.set_model_unet_function_wrapper(predict)
        steps = {"steps": 500, "batch_size": 1, "denoising_steps": 6, "stop_first": 5, "stop_last": 5}
        with pytest.raises(model_management.InterruptProcessingException):
            train((watched, *given[1:]), model, file_name="stopped", **steps)
        assert len(predictions) == 41  # the one that was under way
        stopped = base / "models" / "loras" / "stopped.safetensors"
        assert re.search(r"weights after \d+ of 500 updates", metadata(stopped)["refl_note"])
        loaded, _ = comfy.sd.load_lora_for_models(given[0], None, load_file(stopped), 1.0, 0.0)
        assert not torch.equal(draw((loaded, *given[1:])), draw(given))
        assert bits(given) == before

    def test_out_of_memory_names_the_widgets_saves_the_lora_and_leaves_the_base(
        self, networks: Callable[..., Networks], model: RewardModel, base: Path
    ) -> None:
        given = networks()
        before, left = bits(given), [8]

        def predict(apply_model: Callable[..., torch.Tensor], call: dict[str, Any]) -> torch.Tensor:
            left[0] -= 1
            if left[0] < 0:
                raise model_management.OOM_EXCEPTION("CUDA out of memory. Tried to allocate 2.00 GiB")
            return apply_model(call["input"], call["timestep"], **call["c"])

        troubled = given[0].clone()
        troubled.set_model_unet_function_wrapper(predict)
        with pytest.raises(OutOfMemory, match="lower 'resolution' or 'batch_size'"):
            train((troubled, *given[1:]), model, file_name="short")
        assert "after" in metadata(base / "models" / "loras" / "short.safetensors")["refl_note"]
        assert bits(given) == before


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"prompts": [" \n"]}, "No prompts"),
            ({"denoising_steps": 4, "stop_first": 4, "stop_last": 9}, r"stop_window is 4\.\.3"),
            ({"file_name": "../out"}, "no name for a file"),
            ({"gradient_steps": 3}, "gradient_steps is 3"),
        ],
    )
    def test_bad_input(
        self, networks: Callable[..., Networks], model: RewardModel, changes: dict[str, Any], text: str
    ) -> None:
        with pytest.raises(ImageRewardError, match=text):
            train(networks(), model, **changes)

    def test_the_reward_as_its_own_held_out_scorer(self, networks: Callable[..., Networks], model: RewardModel) -> None:
        with pytest.raises(ImageRewardError, match="'held_out' is the reward model itself"):
            train(networks(), model, held_out=model)

    def test_a_checkpoint_without_its_vae(self, networks: Callable[..., Networks], model: RewardModel) -> None:
        diffusion, clip, _ = networks()
        with pytest.raises(ImageRewardError, match="holds no VAE"):
            train((diffusion, clip, None), model)

    def test_a_kind_of_model_that_is_not_known(self, networks: Callable[..., Networks], model: RewardModel) -> None:
        class Chroma(type(networks("flux")[0].model)):  # type: ignore[misc]
            """A descendant of Flux samples in another way."""

        given = networks("flux")
        given[0].model.__class__ = Chroma
        with pytest.raises(ImageRewardError, match="got Chroma, which cannot be trained"):
            train(given, model)

    def test_an_inpainting_model(self, networks: Callable[..., Networks], model: RewardModel) -> None:
        given = networks()
        given[0].model.model_config.unet_config["in_channels"] = 9
        with pytest.raises(ImageRewardError, match="takes 9 channels, its latents have 4"):
            train(given, model)

    def test_a_kernel_without_gradient(
        self, networks: Callable[..., Networks], model: RewardModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As where a host's attention stays its own."""
        from comfy.ldm.modules import attention

        real = attention.optimized_attention
        monkeypatch.setattr(
            attention,
            "optimized_attention",
            lambda *args, **keywords: real(*args, **{**keywords, "transformer_options": {}}),
        )
        given = networks()
        before = bits(given)
        with pytest.raises(ImageRewardError, match="LoRA layers get no gradient"):
            train(given, model)
        assert bits(given) == before


class TestWithoutDownloads:
    """The technical scorer needs no file, and is the held-out scorer where none is connected."""

    @pytest.fixture
    def technical(self) -> RewardModel:
        return host(load_scorer("technical", device="cpu"), torch.device("cpu"))

    def test_it_trains_by_the_reward_alone_and_says_so(
        self, networks: Callable[..., Networks], technical: RewardModel, base: Path
    ) -> None:
        given = networks()
        before = bits(given)
        outputs = train(given, technical, file_name="technical", sweep=True)
        (text,) = outputs["ui"]["text"]
        first, last = map(float, re.findall(r"reward ([-+.\d]+) -> ([-+.\d]+)", text)[0])
        assert last > first
        assert "held out" not in text
        assert "no held-out scorer watched the run" in text
        saved = metadata(file_of(outputs, base))
        assert "no held-out scorer watched the run" in saved["refl_note"]
        assert "refl_recommended_strength" not in saved
        assert bits(given) == before

    def test_a_mixture_that_holds_it_trains_too(
        self, networks: Callable[..., Networks], technical: RewardModel, model: RewardModel
    ) -> None:
        mixed = host(MixScorer([model.scorer, technical.scorer], [1.0, 0.5]), torch.device("cpu"))
        outputs = train(networks(), mixed, steps=1)
        assert "no held-out scorer watched the run" in outputs["ui"]["text"][0]

    def test_another_scorer_that_is_connected_watches(
        self, networks: Callable[..., Networks], technical: RewardModel, model: RewardModel
    ) -> None:
        text = train(networks(), technical, held_out=model, steps=1)["ui"]["text"][0]
        assert re.search(r"held out ImageReward \S+ -> \S+, diversity \S+ -> \S+; ", text)  # one prompt, two noises

    def test_a_list_of_scorers_watches_each_by_itself(
        self, networks: Callable[..., Networks], technical: RewardModel, model: RewardModel, predictions: list[int]
    ) -> None:
        given = networks()
        other = host(MixScorer([model.scorer], [-1.0]), torch.device("cpu"))
        outputs = train(given, model, held_out=[technical, other], steps=1)
        assert re.search(r"held out Technical \S+ -> \S+, held out Mix \S+ -> \S+,", outputs["ui"]["text"][0])
        made = len(predictions)
        train(given, model, held_out=[technical, other], steps=1, file_name="again")
        assert len(predictions) == made  # the same scorers: nothing to train
        train(given, model, held_out=[other], steps=1)
        assert len(predictions) > made


def test_a_changed_file_of_prompts_trains_again(base: Path) -> None:
    file = base / "input" / "prompts.txt"
    file.write_text("a cat")
    node: Any = train_refl.TrainReflLora
    before = node.fingerprint_inputs(prompts_file=["prompts.txt"], continue_from=["[None]"])
    file.write_text("a cat\na dog")
    assert node.fingerprint_inputs(prompts_file=["prompts.txt"], continue_from=["[None]"]) != before


def test_a_conditioning_of_one_prompt_may_be_shared_by_a_batch(networks: Callable[..., Networks]) -> None:
    from sd_imagereward.comfyui_nodes.refl.conditioning import EncodedPrompts

    _, clip, _ = networks()
    calls: list[str] = []
    counted = SimpleNamespace(
        patcher=clip.patcher,
        tokenize=lambda text: calls.append(text) or clip.tokenize(text),
        encode_from_tokens_scheduled=clip.encode_from_tokens_scheduled,
    )
    encoded = EncodedPrompts(counted)
    encoded.encode(["a cat", "a dog", "a cat"])
    ((embeddings, options),) = encoded.batch(["a cat", "a dog", "a cat"])
    assert calls == ["a cat", "a dog"]
    assert torch.equal(embeddings[0], embeddings[2])
    assert not torch.equal(embeddings[0], embeddings[1])
    assert options["pooled_output"].shape == (3, 32)
    encoded.free()
    assert not model_management.current_loaded_models
