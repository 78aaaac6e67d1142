"""REWARD_MODEL: a scorer whose networks ComfyUI's memory management moves, one patcher a network."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_management as model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP

from ..core.errors import ImageRewardError
from ..core.scorers.base import Scorer

ACTIVATION_BYTES = (
    64 * 2**20
)  # what scoring one image needs beside the weights (ViT-L/16 at 224 in float32, rounded up)


class WholePatcher(ModelPatcher):
    """Moves all of a network or nothing.

    ComfyUI's own layers may stay behind and be cast when used; plain torch layers cannot, so a network of which a part
    was left on the CPU (low VRAM) would fail in the middle of a forward pass.
    """

    def partially_load(
        self, device_to: torch.device, extra_memory: float = 0, force_patch_weights: bool = False
    ) -> int:
        before = self.loaded_size()
        self.load(device_to, lowvram_model_memory=1e32, force_patch_weights=force_patch_weights, full_load=True)
        return int(self.loaded_size() - before)

    def partially_unload(
        self, device_to: torch.device, memory_to_free: float = 0, force_patch_weights: bool = False, **_: Any
    ) -> int:
        return 0  # nothing freed: the caller then unloads the whole network


class RewardModel:
    """A scorer and the patchers of its networks (a mixture has several, `technical` none)."""

    def __init__(self, scorer: Scorer, patchers: Sequence[ModelPatcher], keeps: Sequence[RewardModel] = ()) -> None:
        self.scorer = scorer
        self.patchers = tuple(patchers)
        self.keeps = tuple(keeps)  # components of a mixture: alive as long as it is

    @contextmanager
    def loaded(self, images: int) -> Iterator[Scorer]:
        """The scorer with its networks on their device and room for a chunk of `images`."""
        if self.patchers:
            model_management.load_models_gpu(
                list(self.patchers), memory_required=images * ACTIVATION_BYTES, force_full_load=True
            )
        with self.scorer.lock:
            yield self.scorer


_patchers: weakref.WeakValueDictionary[tuple[int, str], ModelPatcher] = weakref.WeakValueDictionary()
_models: weakref.WeakValueDictionary[tuple[int, str], RewardModel] = weakref.WeakValueDictionary()


def scoring_device(choice: str) -> torch.device:
    """'auto': the device on which ComfyUI samples; 'cpu': the CPU."""
    return torch.device("cpu") if choice == "cpu" else model_management.get_torch_device()


def host(scorer: Scorer, device: torch.device) -> RewardModel:
    """The REWARD_MODEL of a scorer on `device`; the same one however many nodes ask for it."""
    key = (id(scorer), str(device))
    model = _models.get(key)
    if model is None:
        if scorer.members:
            model = host_mixture(scorer, [host(member, device) for member in scorer.members])
        else:
            has_weights = next(scorer.network.parameters(), None) is not None
            model = RewardModel(scorer, [_patcher(scorer, device)] if has_weights else [])
        _models[key] = model
        weakref.finalize(model, _release, scorer).atexit = False
    return model


def host_mixture(scorer: Scorer, components: Sequence[RewardModel]) -> RewardModel:
    """The REWARD_MODEL of a mixture: its networks are those of its components, and so are the patchers.

    Two components may look through one tower (`clip` and `aesthetic`): each patcher counts it, and the one that leaves the
    device takes it along; `RewardModel.loaded` brings it back, since a patcher is always loaded whole.
    """
    patchers = {id(patcher): patcher for model in components for patcher in model.patchers}
    return RewardModel(scorer, list(patchers.values()), components)


def expect_reward_model(value: Any) -> RewardModel:
    if isinstance(value, RewardModel):
        return value
    raise ImageRewardError(
        f"Expected a REWARD_MODEL from 'ImageReward Load Reward Model' or 'ImageReward Mix Reward Models', got "
        f"{type(value).__name__} (another pack's type of the same name?)."
    )


def _patcher(scorer: Scorer, device: torch.device) -> ModelPatcher:
    network = scorer.network
    key = (id(network), str(device))
    patcher = _patchers.get(key)
    if patcher is None:
        patcher = WholePatcher(network, load_device=device, offload_device=model_management.unet_offload_device())
        patcher.add_callback(CallbacksMP.ON_DETACH, _forgetting(weakref.ref(scorer)))
        _patchers[key] = patcher
    return patcher


def _forgetting(scorer: weakref.ref[Scorer]) -> Callable[..., None]:
    """What ComfyUI calls when the network leaves its device: the features that lie there leave with it."""

    def forget(*_: Any) -> None:
        one = scorer()
        if one is not None:
            one.forget_features()

    return forget


def _release(scorer: Scorer) -> None:
    """No node holds the model any more: give the memory back, unless another device's model shares the scorer."""
    if not any(model.scorer is scorer for model in _models.values()):
        scorer.unload()
