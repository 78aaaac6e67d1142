"""Load, Mix, and how ComfyUI's memory management sees the networks."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import pytest
import torch
from checkpoints import write_imagereward
from run_node import PROMPT, run
from sd_imagereward.comfyui_nodes import folders, hosting
from sd_imagereward.comfyui_nodes.nodes.load import LoadRewardModel
from sd_imagereward.comfyui_nodes.nodes.mix import MixRewardModels
from sd_imagereward.comfyui_nodes.nodes.score import ScoreImages
from sd_imagereward.core.errors import ImageRewardError, UnknownCheckpoint, WeightsNotFound
from sd_imagereward.core.scorers.loading import loaded_scorers


@pytest.fixture
def installed(base: Path, checkpoint: Path) -> str:
    """A checkpoint in models/ImageReward."""
    target = base / "models" / "ImageReward"
    shutil.copytree(checkpoint.parent, target, dirs_exist_ok=True)
    shutil.move(target / checkpoint.name, target / "tiny.pt")
    return "tiny.pt"


def load(name: str, **more: Any) -> hosting.RewardModel:
    return run(LoadRewardModel, model=name, **more)["reward_model"]


def mix(*models: Any, **more: Any) -> hosting.RewardModel:
    sockets = {f"model_{n}": model for n, model in enumerate(models, start=1)}
    return run(MixRewardModels, models=sockets, **more)["mixed_model"]


def options() -> list[str]:
    return next(one for one in LoadRewardModel.define_schema().inputs if one.id == "model").options


def test_the_list_offers_names_and_files(installed: str, base: Path) -> None:
    (base / "models" / "ImageReward" / "notes.txt").write_text("no model")
    assert options()[0] == "imagereward"
    assert options()[-1] == installed


def test_the_files_of_extra_model_paths_are_offered(tmp_path: Path) -> None:
    import folder_paths

    extra = tmp_path / "elsewhere"
    write_imagereward(extra, format="safetensors")
    folder_paths.folder_names_and_paths["ImageReward"] = ([str(extra)], set())
    folders.register()
    assert options()[-1] == "ImageReward.safetensors"
    assert load("ImageReward.safetensors").scorer.info.title == "ImageReward"


def test_one_patcher_a_network_however_many_nodes(installed: str, pictures: Any) -> None:
    first, second = load(installed), load(installed)
    assert first is second
    for prompt in (PROMPT, "a red cat"):
        run(ScoreImages, reward_model=first, image=pictures(1), prompt=prompt)
        run(ScoreImages, reward_model=second, image=pictures(1, seed=1), prompt=prompt)
    assert len(model_management.current_loaded_models) == 1
    patcher = model_management.current_loaded_models[0].model
    assert patcher.model is first.scorer.network
    assert all(request["models"] == [patcher] for request in model_management.requests)
    assert all(request["force_full_load"] and request["memory_required"] > 0 for request in model_management.requests)


def test_networks_are_moved_whole_or_not_at_all(installed: str) -> None:
    (patcher,) = load(installed).patchers
    assert patcher.loaded_size() == 0
    assert patcher.partially_load(torch.device("cpu"), 0.1) == patcher.model_size()
    assert patcher.partially_unload(torch.device("cpu"), 1000) == 0
    assert patcher.loaded_size() == patcher.model_size()


def test_features_leave_with_the_network(installed: str, pictures: Any) -> None:
    model = load(installed)
    run(ScoreImages, reward_model=model, image=pictures(2), prompt=PROMPT)
    (cache,) = model.scorer.feature_caches()
    assert len(cache) == 2
    model_management.unload_all_models()
    assert len(cache) == 0


def test_scores_again_after_unload_models(installed: str, pictures: Any) -> None:
    model = load(installed)
    before = run(ScoreImages, reward_model=model, image=pictures(1), prompt=PROMPT)["values"]
    model_management.unload_all_models()
    assert model.patchers[0].loaded_size() == 0
    run(ScoreImages, reward_model=model, image=pictures(1, seed=1), prompt=PROMPT)
    assert run(ScoreImages, reward_model=model, image=pictures(1), prompt=PROMPT)["values"] == before
    assert model.patchers[0].loaded_size() > 0


def test_the_memory_comes_back_when_no_node_holds_the_model(installed: str) -> None:
    model = load(installed)
    network = weakref.ref(model.scorer.network)
    assert loaded_scorers() == [model.scorer]
    del model
    gc.collect()
    assert loaded_scorers() == []
    assert network() is None


def test_weights_can_still_be_trained(installed: str) -> None:
    assert not any(p.is_inference() for p in load(installed).scorer.network.parameters())


def test_dtypes(installed: str) -> None:
    assert load(installed).scorer.dtype == torch.float32  # on the CPU
    assert load(installed, dtype="fp16").scorer.dtype == torch.float16
    assert load(installed, dtype="bf16").scorer.dtype == torch.bfloat16


def test_a_replaced_file_is_noticed(installed: str, base: Path) -> None:
    before = LoadRewardModel.fingerprint_inputs(installed)
    assert LoadRewardModel.fingerprint_inputs(installed) == before
    write_imagereward(base / "new", seed=1, vision_depth=1)
    shutil.copy(base / "new" / "ImageReward.pt", base / "models" / "ImageReward" / installed)
    assert LoadRewardModel.fingerprint_inputs(installed) != before


def test_a_file_that_is_no_reward_model(base: Path) -> None:
    folder = base / "models" / "ImageReward"
    folder.mkdir(parents=True)
    torch.save({"model.diffusion_model.out.weight": torch.zeros(1)}, folder / "sd.pt")
    with pytest.raises(UnknownCheckpoint, match=r"imagereward.*Stable Diffusion checkpoint"):
        load("sd.pt")


def test_a_model_that_cannot_be_had(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(base / "hf"))
    with pytest.raises(WeightsNotFound) as error:
        load("imagereward")
    said = str(error.value)
    assert "ImageReward.pt" in said
    assert "THUDM/ImageReward" in said
    assert str(base / "models" / "ImageReward") in said


def test_a_file_that_has_gone(installed: str, base: Path) -> None:
    (base / "models" / "ImageReward" / installed).unlink()
    with pytest.raises(ImageRewardError, match=r"tiny\.pt"):
        load(installed)


class TestMixtureFile:
    @pytest.fixture
    def file(self, installed: str, base: Path) -> str:
        text = json.dumps({"mix": {installed: 2, "technical": 0.5}})
        (base / "models" / "ImageReward" / "mine.json").write_text(text)
        (base / "models" / "ImageReward" / "vocab.json").write_text('{"a": 1}')
        return "mine.json"

    def test_is_offered_and_a_vocabulary_is_not(self, file: str) -> None:
        assert options()[-2:] == ["mine.json", "tiny.pt"]

    def test_shows_its_components(self, file: str, installed: str, pictures: Any) -> None:
        batch = pictures(2)
        out = run(ScoreImages, reward_model=load(file), image=batch, prompt=PROMPT)
        components = [
            run(ScoreImages, reward_model=load(n), image=batch, prompt=PROMPT)["values"]
            for n in (installed, "technical")
        ]
        assert out["values"] == pytest.approx([2 * a + 0.5 * b for a, b in zip(*components, strict=True)], abs=1e-4)
        assert list(out["scores"].components) == ["ImageReward", "Technical"]

    def test_shares_the_network_with_a_node_that_loads_the_member(self, file: str, installed: str) -> None:
        alone, mixed = load(installed), load(file)
        assert mixed is load(file)
        assert alone.patchers[0] in mixed.patchers
        assert all(patcher.model in (m.network for m in mixed.scorer.members) for patcher in mixed.patchers)

    def test_its_memory_comes_back(self, file: str, installed: str) -> None:
        alone, mixed = load(installed), load(file)
        del mixed
        gc.collect()
        assert loaded_scorers() == [alone.scorer]
        assert not alone.scorer.unloaded
        del alone
        gc.collect()
        assert loaded_scorers() == []

    def test_a_changed_file_is_noticed(self, file: str, base: Path) -> None:
        before = LoadRewardModel.fingerprint_inputs(file)
        (base / "models" / "ImageReward" / file).write_text('{"mix": {"technical": 1}, "normalise": true}')
        assert LoadRewardModel.fingerprint_inputs(file) != before

    def test_a_broken_one_says_what_it_should_be(self, file: str, base: Path) -> None:
        (base / "models" / "ImageReward" / file).write_text('{"mix": {}}')
        assert file in options()
        with pytest.raises(ImageRewardError, match="at least one scorer"):
            load(file)


class TestMix:
    def test_is_the_weighted_sum_and_shows_its_components(self, installed: str, base: Path, pictures: Any) -> None:
        write_imagereward(base / "other", seed=1)
        shutil.copy(base / "other" / "ImageReward.pt", base / "models" / "ImageReward" / "other.pt")
        one, two = load(installed), load("other.pt")
        mixed = mix(one, two, weights="2, -0.5")
        batch = pictures(3)
        first, second = (run(ScoreImages, reward_model=m, image=batch, prompt=PROMPT)["values"] for m in (one, two))
        out = run(ScoreImages, reward_model=mixed, image=batch, prompt=PROMPT)
        expected = [2 * a - 0.5 * b for a, b in zip(first, second, strict=True)]
        assert out["values"] == pytest.approx(expected, abs=1e-4)
        assert len(out["scores"].components) == 2

    def test_its_networks_keep_their_patchers(self, installed: str, pictures: Any) -> None:
        one = load(installed)
        mixed = mix(one, load(installed, dtype="bf16"))
        assert len(mixed.patchers) == 2
        assert mixed.patchers[0] is one.patchers[0]

    def test_keeps_its_components_in_memory(self, installed: str, pictures: Any) -> None:
        mixed = mix(load(installed), load(installed, dtype="bf16"))
        gc.collect()
        assert len(loaded_scorers()) == 2
        run(ScoreImages, reward_model=mixed, image=pictures(1), prompt=PROMPT)

    def test_a_model_without_a_weight_counts_once(self, installed: str) -> None:
        models = [load(installed), load(installed, dtype="bf16"), load("technical")]
        assert mix(*models, weights="0.5").scorer.weights == (0.5, 1.0, 1.0)
        assert mix(*models, weights="").scorer.weights == (1.0, 1.0, 1.0)
        assert mix(*models).scorer.weights == (1.0, 1.0, 1.0)

    def test_models_count_in_the_order_of_the_sockets(self, installed: str) -> None:
        one, two, three = load(installed), load(installed, dtype="bf16"), load("technical")
        models = {"model_3": three, "model_1": one, "model_2": two}
        mixed = run(MixRewardModels, models=models, weights="1, 2, 3")["mixed_model"]
        assert mixed.keeps == (one, two, three)

    @pytest.mark.parametrize(
        ("weights", "said"),
        [
            ("0, 0", "All 2 weights are 0"),
            ("1, 2, 3", "3 weights .* for 2 reward models"),
            ("1; 2", r"such as 1, 0\.5, got '1; 2'"),
            ("1, nan", "got 'nan'"),
            ("1,, 2", "got ''"),
        ],
    )
    def test_weights_that_cannot_be_are_said(self, installed: str, weights: str, said: str) -> None:
        one = load(installed)
        with pytest.raises(ImageRewardError, match=said):
            mix(one, one, weights=weights)

    def test_what_is_no_reward_model_is_said(self, installed: str) -> None:
        with pytest.raises(ImageRewardError, match="got str"):
            mix(load(installed), "imagereward")

    def test_a_component_that_brings_nothing_is_said(self, installed: str) -> None:
        with pytest.raises(ImageRewardError, match="at least 2 reward models, got 1"):
            mix(load(installed), None)
