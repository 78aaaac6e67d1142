"""Which networks lie on the device in each part of an update, when it has no room for all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.model_management as model_management
from comfy.model_patcher import ModelPatcher

from ...core.scorers.base import Scorer
from ..hosting import RewardModel
from .memory import are_held, hold

# With gradient, blocks recomputed: benchmarks/refl_memory.py counts 6.6 GiB for decoder and reward. The network's 0.5 to 0.9
# grow with each denoising step that carries gradient, so the same is reserved for it.
ACTIVATION_MIB_PER_MEGAPIXEL = 6912


class Stage:
    """The network draws and learns; decoder and reward model score. With room for all they stay, else they take turns.

    They can: `core.refl.reward_gradient` runs a backward pass of its own for decoder and reward; the network's weights are
    not read before its own begins. What the graph holds of them are the parameters themselves, which ComfyUI moves and
    brings back.
    """

    def __init__(self, network: ModelPatcher, decoder: ModelPatcher, rewards: Sequence[RewardModel]) -> None:
        self.network, self.decoder = network, decoder
        self._patchers = {id(one.scorer): one.patchers for one in rewards}
        self._all = list(dict.fromkeys([network, decoder, *(each for one in rewards for each in one.patchers)]))
        self._activations = 0  # bytes
        self._together = True

    def begin(self, width: int, height: int, batch: int) -> None:
        """Before a rollout that needs the memory of an update of `batch` pictures of that size."""
        activations = (
            batch * width * height * ACTIVATION_MIB_PER_MEGAPIXEL
        )  # a megapixel has as many pixels as a MiB bytes
        grown = activations > self._activations
        if grown:
            self._activations = activations
            self._together = _have_room(self._all, activations)
        if not self._together:
            self.bring_network()
        elif grown or not are_held(self._all):
            hold(self._all, self._activations)

    def bring_scorer(self, scorer: Scorer) -> None:
        if not self._together:
            hold([self.decoder, *self._patchers.get(id(scorer), ())], self._activations)

    def bring_network(self) -> None:
        if not self._together:
            hold([self.network], self._activations)


def _have_room(patchers: Sequence[ModelPatcher], activations: int) -> bool:
    """Whether all of them and the activations fit on the device of the first, if whatever else lies there leaves.

    Counted as `load_models_gpu` counts.
    """
    device = patchers[0].load_device
    if model_management.is_device_cpu(device):
        return True
    others = [one for one in model_management.current_loaded_models if one.device == device and one.model is not None]
    loaded = sum(one.model_loaded_memory() for one in others)
    weights = sum(one.model_size() for one in patchers if one.load_device == device)
    reserved = model_management.extra_reserved_memory()
    needed = 1.1 * weights + max(model_management.minimum_inference_memory(), activations + reserved)
    return bool(needed <= model_management.get_free_memory(device) + loaded)
