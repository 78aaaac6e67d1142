"""What is trained: LoRA layers on the network, or the whole network. The loop treats both alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn

from ..errors import ImageRewardError
from .config import ReflConfig
from .generator import Generator
from .lora import Lora
from .lora_files import lora_from_tensors, read_lora


class Tuning(ABC):
    """Owns the trained parameters and can show the network as it was before."""

    @abstractmethod
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name, float32."""

    @abstractmethod
    def at(self, strength: float) -> AbstractContextManager[None]:
        """Draw with the tuning at another strength for a while; 0 is the untuned network, 1 the tuned."""

    @abstractmethod
    def detach(self) -> None:
        """Leave the generator's network frozen and without hooks; a LoRA's changes are gone, full tuning's stay."""

    def state(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.parameters().items()}


class LoraTuning(Tuning):
    """The network stays frozen; small branches on its layers are trained."""

    def __init__(self, generator: Generator, lora: Lora):
        self.generator, self.lora = generator, lora
        lora.requires_grad_(True)
        generator.attach(lora)

    @classmethod
    def of(cls, generator: Generator, config: ReflConfig) -> LoraTuning:
        lora = Lora.on(
            generator.layers(),
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            which=config.lora_layers,
            of=generator.family.layers,
            init=config.lora_init,
            seed=config.seed,
        )
        return cls(generator, lora)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {
            f"{name}.{part}": parameter
            for name, layer in self.lora.items()
            for part, parameter in layer.named_parameters()
        }

    def at(self, strength: float) -> AbstractContextManager[None]:
        return self.lora.at(strength)

    def detach(self) -> None:
        self.generator.detach(self.lora)


class FullTuning(Tuning):
    """Every parameter of the network is trained, in float32."""

    def __init__(self, generator: Generator, *, keep_untuned: bool = False):
        self.network = generator.network.float().requires_grad_(True)
        self.untuned = (
            {name: parameter.detach().clone() for name, parameter in self.network.named_parameters()}
            if keep_untuned
            else None
        )

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.network.named_parameters())

    def at(self, strength: float) -> AbstractContextManager[None]:
        if strength == 1:
            return nullcontext()
        if strength != 0 or self.untuned is None:
            raise ImageRewardError(
                f"full tuning has no strength {strength}: only a LoRA can be drawn at another strength"
            )
        return self._untuned()

    @contextmanager
    def _untuned(self) -> Iterator[None]:
        parameters = self.parameters()
        tuned = {name: parameter.data for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            parameter.data = self.untuned[name]  # type: ignore[index]
        try:
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = tuned[name]

    def detach(self) -> None:
        self.network.requires_grad_(False)


def tuning_of(generator: Generator, config: ReflConfig) -> Tuning:
    if config.lora_from:
        return LoraTuning(generator, lora_from_tensors(read_lora(config.lora_from).tensors, generator.layers()))
    if config.tune == "lora":
        return LoraTuning.of(generator, config)
    return FullTuning(generator, keep_untuned=config.prior_weight > 0)
