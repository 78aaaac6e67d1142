"""What a scorer is: pixels and prompts in, one number an image out, higher is better."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, SupportsIndex, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from ..errors import ImageRewardError
from ..files.console import counted
from ..networks.derivatives import derivative_wanted
from ..networks.devices import release_memory
from ..pictures.resize import as_float, resize_crop, resize_crop_smooth
from ..weights.catalogue import WeightFile
from ..weights.fork_safe import ForkSafeLock
from .cache import FeatureCache

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..weights.read import Checkpoint


Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class ScorerInfo:
    """What a scorer's number means; the data that tables, dropdowns and help pages show."""

    name: str  # what `load_scorer`, `--scorer` and the dropdowns take: "imagereward"
    title: str  # what people read, and the key written into files: "ImageReward"
    measures: str  # one sentence
    reads_prompt: bool
    prompt_tokens: int | None  # longer prompts are cut there
    mean: float  # typical mean and standard deviation over generated images
    std: float
    licence: str
    source: str
    paper: str
    weights: tuple[WeightFile, ...] = ()  # the checkpoint first, then what accompanies it; () = needs none
    typical: str = ""  # where mean and std come from
    estimated: bool = True  # whether they are somebody's guess, so that percentiles and z-scores are rough

    def z_score(self, score: Number) -> Number:
        """How many standard deviations a score lies above the typical mean."""
        return (score - self.mean) / self.std

    def percentile(self, score: float) -> float:
        """Share (0..100) of typical generated images that score lower, under a normal distribution."""
        z = self.z_score(score)
        return 50.0 * (1.0 + torch.erf(torch.tensor(z / 2**0.5, dtype=torch.float64, device="cpu")).item())


class Reload(Protocol):
    """How a scorer is loaded again, here or in another process; goes into its pickle."""

    @property
    def spec(self) -> str:
        """What `load_scorer` takes to load it."""

    def fits(self, scorer: Scorer) -> bool:
        """Whether loading would give the scorer as it is."""

    def __call__(self, values: list[Any]) -> Scorer:
        """Loads it. values: of the settings."""


def _nobody_shares(scorer: Scorer) -> None:
    """What a scorer does at the end that only its owner holds."""


class Scorer(ABC):
    """Scores images. Subclass it in a file of its own in this folder and decorate it with `@register`.

    `network` holds every parameter; a host's memory manager may move it, so device and dtype are read off it at each call.

    Args:
        info: name, title, typical mean and licence.
        network: what computes the score.
        input_size: pixels of the square that the network sees; None where images keep their size.
    """

    variants: ClassVar[tuple[ScorerInfo, ...]]  # what `@register` announces; most classes have one
    members: tuple[Scorer, ...] = ()  # of a mixture
    settings: ClassVar[tuple[str, ...]] = ()  # attributes that callers may set, and that a pickle carries along
    requested = False  # from `load_scorer` itself, not only as a member of a mixture

    def __init__(self, info: ScorerInfo, network: nn.Module, input_size: int | None) -> None:
        self.info = info
        self.network = network
        self.input_size = input_size
        self.lock = ForkSafeLock()
        self.unloaded = False
        self.mixtures: WeakSet[Scorer] = WeakSet()  # those that this one is a member of
        self.on_unload: Callable[[Scorer], None] = _nobody_shares  # set by whoever shares the instance
        self.reload: Reload | None = None  # how to load it again; set by `load_scorer`

    # -- scoring -------------------------------------------------------------------------------------------------

    @abstractmethod
    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, 3, H, W) RGB pixels in [0, 1] (or uint8) and B prompts -> (B,) float32 on the network's device.

        Differentiable in float pixels, backwards, forwards and twice; any size, device and float dtype.
        """

    def components(self, pixels: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The components of the score by title, each (B,) float32. A mixture has several."""
        return {self.info.title: self.score(pixels, prompts)}

    def prepare(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, S, S) float32 in [0, 1] on the network's device; S is `input_size`, None keeps H and W.

        Where no derivative is wanted the resize equals Pillow's to the bit; else it is the same bicubic without the
        8-bit rounding. Preparing twice changes nothing.
        """
        pixels = self._on_device(pixels)
        if self.input_size is None:
            return as_float(pixels)
        if derivative_wanted(pixels):
            return resize_crop_smooth(pixels, self.input_size)
        return resize_crop(pixels, self.input_size).float() / 255.0

    def _count(self, pixels: Tensor, prompts: Sequence[str]) -> int:
        """How many images there are to score, a prompt for each."""
        self._require_loaded()
        if len(prompts) != pixels.shape[0]:
            raise ValueError(
                f"expected a prompt for each image, got {counted(len(prompts), 'prompt')} "
                f"for {counted(pixels.shape[0], 'image')}"
            )
        return len(prompts)

    def _on_device(self, pixels: Tensor) -> Tensor:
        self._require_loaded()
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"expected pixels of shape (B, 3, H, W), got {tuple(pixels.shape)}")
        if pixels.dtype == torch.float64:
            pixels = pixels.float()  # Apple's and Intel's GPUs have no float64
        return pixels.to(self.device)

    # -- where it lives ------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        parameter = next(self.network.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def dtype(self) -> torch.dtype:
        parameter = next(self.network.parameters(), None)
        return torch.float32 if parameter is None else parameter.dtype

    def to(self, device: torch.device | str) -> Scorer:
        self._require_loaded()
        with self.lock:
            before = self.device
            self.network.to(device)
            if self.device != before:
                self.forget_features()
        return self

    @contextlib.contextmanager
    def on(self, device: torch.device | str) -> Iterator[Scorer]:
        """The network on `device` for the length of a `with` block, then back where it was."""
        with self.lock:
            home = self.device
            self.to(device)
            try:
                yield self
            finally:
                if not self.unloaded:
                    self.to(home)

    def memory(self) -> int:
        """Bytes that parameters and buffers take."""
        tensors = [*self.network.parameters(), *self.network.buffers()]
        return sum(t.numel() * t.element_size() for t in tensors)

    def feature_caches(self) -> Sequence[FeatureCache]:
        """Where this scorer keeps image features of earlier calls, on the network's device."""
        return ()

    def forget_features(self) -> None:
        """Frees the features kept from earlier calls: for when the network leaves its device."""
        for cache in self.feature_caches():
            cache.clear()
        for member in self.members:
            member.forget_features()

    def unload(self) -> None:
        """Frees the network's memory, forgets the shared instance, and unloads the mixtures of it. Harmless twice."""
        with self.lock:
            self.forget_features()
            self.on_unload(self)
            self.drop_network()
            self.unloaded = True
        for mixture in list(self.mixtures):
            mixture.unload()
        release_memory()

    def drop_network(self) -> None:
        """Lets go of everything that holds the network's tensors; `unload` calls it, and gives the memory back then."""
        self.network = nn.Module()

    def _require_loaded(self) -> None:
        if self.unloaded:
            spec = self.info.name if self.reload is None else self.reload.spec
            raise ImageRewardError(f"{self.info.title} was unloaded; call load_scorer({spec!r}) again")

    # -- copies --------------------------------------------------------------------------------------------------

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """By its file while that and the weights are as they were loaded; else by value."""
        if self.reload is not None and self.reload.fits(self):
            return self.reload, (self.values(),)
        return super().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("mixtures", "on_unload", "reload")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.mixtures, self.on_unload, self.reload = WeakSet(), _nobody_shares, None
        for member in self.members:
            member.mixtures.add(self)

    def values(self) -> list[Any]:
        """Of its settings, then of its members'."""
        own = [getattr(self, name) for name in self.settings]
        return own + [value for member in self.members for value in member.values()]

    def set_values(self, values: list[Any]) -> None:
        """Sets what `values` of an equal scorer gave."""
        left = iter(values)
        for scorer in (self, *self.members):
            for name in scorer.settings:
                setattr(scorer, name, next(left))

    # -- building ------------------------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether these tensors are this scorer's, by their names and shapes."""
        return False

    @classmethod
    def doubts(cls, checkpoint: Checkpoint) -> str:
        """Why a checkpoint that `recognises` accepted may be another model's all the same; "" if there is no doubt."""
        return ""

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint | None, info: ScorerInfo, *, device: torch.device, dtype: torch.dtype
    ) -> Scorer:
        """Builds the scorer from a checkpoint (None for one that needs no weights) that `recognises` accepted."""
        raise NotImplementedError(f"{cls.__name__} cannot be built from a checkpoint")
