"""What is trained on under dynamic VRAM, and what cannot be; in tests/hosts on ComfyUI's own patchers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management as model_management
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_scenes import Networks, bits
from sd_imagereward.comfyui_nodes.refl.dynamic_vram import recast, standing
from sd_imagereward.comfyui_nodes.refl.generator import ComfyGenerator
from sd_imagereward.comfyui_nodes.refl.memory import hold, training_mode
from sd_imagereward.core.errors import ImageRewardError


class DynamicPatcher(ModelPatcher):
    """Knows how its network is loaded once more, as those of the stock loaders."""

    cached_patcher_init: Callable[[], Any] | None = None
    injections: dict[str, Any]

    @classmethod
    def over(cls, patcher: ModelPatcher, again: Callable[[], Any] | None) -> DynamicPatcher:
        made = cls(patcher.model, patcher.load_device, patcher.offload_device)
        made.cached_patcher_init, made.injections = again, {}
        return made

    def is_dynamic(self) -> bool:
        return True

    def clone(self, disable_dynamic: bool = False) -> ModelPatcher:
        assert disable_dynamic
        assert self.cached_patcher_init is not None
        return ModelPatcher(self.cached_patcher_init(), self.load_device, self.offload_device)


@pytest.fixture
def dynamic(networks: Callable[..., Networks]) -> Networks:
    model, clip, vae = networks()
    vae.patcher = DynamicPatcher.over(vae.patcher, lambda: networks()[2].first_stage_model)
    return DynamicPatcher.over(model, lambda: networks()[0].model), clip, vae


def test_weights_that_stay_anyway_are_taken_as_they_are(networks: Callable[..., Networks]) -> None:
    model, _, vae = networks()
    assert standing(model, vae) == (model, vae)


def test_copies_are_trained_on_and_leave_the_device(dynamic: Networks) -> None:
    before = bits(dynamic)
    with training_mode():
        generator = ComfyGenerator(*dynamic)
        assert generator.patcher.model is not dynamic[0].model
        assert generator.vae.first_stage_model is generator.vae.patcher.model is not dynamic[2].first_stage_model
        assert generator.vae.process_output is dynamic[2].process_output
        hold([generator.patcher, generator.vae.patcher], 0)
        generator.close()
    assert not model_management.current_loaded_models
    assert bits(dynamic) == before


def test_each_weight_is_cast_to_what_the_host_computes_it_in() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).half()
    network[0].weight_comfy_model_dtype, network[0].bias_comfy_model_dtype = torch.float64, None
    network[1].running_mean_comfy_model_dtype = torch.float32
    weight = network[0].weight.double()
    recast(network, torch.bfloat16)
    assert torch.equal(network[0].weight, weight)
    assert (network[0].bias.dtype, network[1].weight.dtype) == (torch.bfloat16, torch.bfloat16)
    assert (network[1].running_mean.dtype, network[1].running_var.dtype) == (torch.float32, torch.float16)
    assert network[1].num_batches_tracked.dtype == torch.int64


class TestRefused:
    def test_a_loader_that_cannot_load_again(self, dynamic: Networks) -> None:
        model, _, vae = dynamic
        model.cached_patcher_init, again = None, model.cached_patcher_init
        with pytest.raises(
            ImageRewardError, match=r"the MODEL a second time.*'Load Checkpoint' or 'Load Diffusion Model'"
        ):
            standing(model, vae)
        model.cached_patcher_init, vae.patcher.cached_patcher_init = again, None
        with pytest.raises(ImageRewardError, match=r"the VAE a second time.*'Load VAE' with a file"):
            standing(model, vae)

    def test_a_file_that_is_gone(self, dynamic: Networks) -> None:
        def gone() -> Any:
            raise FileNotFoundError("no such file")

        dynamic[0].cached_patcher_init = gone
        with pytest.raises(ImageRewardError, match=r"no longer readable \(no such file\): put it back"):
            standing(dynamic[0], dynamic[2])

    def test_code_injected_into_the_network(self, dynamic: Networks) -> None:
        dynamic[0].injections = {"bypass_lora": []}
        with pytest.raises(ImageRewardError, match="switch 'bypass' off"):
            standing(dynamic[0], dynamic[2])

    def test_the_first_experiment_with_dynamic_vram(self, dynamic: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(DynamicPatcher, "clone", ModelPatcher.clone)
        with pytest.raises(ImageRewardError, match="without --fast dynamic_vram"):
            standing(dynamic[0], dynamic[2])
