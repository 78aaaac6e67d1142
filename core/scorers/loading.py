"""One way to load: a name, a file or a Hub repository becomes a scorer, shared by all who request the same or one's own."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..errors import ImageRewardError, OutOfMemory, UnknownCheckpoint, WeightsNotFound
from ..files.console import counted
from ..networks.devices import default_device, device_of, is_out_of_memory
from ..weights.catalogue import WeightFile
from ..weights.download import OnBytes, fetch_weight, hub_files
from ..weights.fork_safe import ForkSafeLock
from ..weights.identity import spec_identity
from ..weights.locate import add_host_folders, find_weight, host_folders
from ..weights.read import Checkpoint, read_checkpoint
from .base import Scorer, ScorerInfo
from .cache import computation
from .int8 import quantise_linears
from .mix import MixScorer
from .mixture import Mixture, is_mixture, notation, read_mixture
from .registry import scorer_classes, scorer_infos
from .towers import towers_shared_by

HUB = "hub:"
INT8 = "int8"
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "float32": torch.float32}
_DTYPES |= {"float16": torch.float16, "bfloat16": torch.bfloat16}

_loaded: dict[tuple[str, str, str], Scorer] = {}
_lock = ForkSafeLock()


@dataclass(frozen=True)
class Precision:
    """How a network is held: a float dtype, and whether its linear layers are int8 (CPU alone, approximate)."""

    dtype: torch.dtype
    int8: bool = False

    @classmethod
    def parse(cls, dtype: torch.dtype | str | None, device: torch.device) -> Precision:
        """None takes fp16 on a GPU and fp32 on a CPU, the precisions that keep the reference's numbers."""
        if dtype is None or dtype == "auto":
            return cls(torch.float32 if device.type == "cpu" else torch.float16)
        if dtype == INT8:
            if device.type != "cpu":
                raise ImageRewardError(f"int8 linear layers run on the CPU alone, not on {device}; use fp16 there")
            return cls(torch.float32, int8=True)
        if isinstance(dtype, str):
            if dtype not in _DTYPES:
                raise ImageRewardError(f"expected a dtype of fp32, fp16, bf16 or int8, got {dtype!r}")
            dtype = _DTYPES[dtype]
        return cls(dtype)


def load_scorer(
    name_or_path: str | os.PathLike[str] = "imagereward",
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    shared: bool = True,
    on_download: OnBytes | None = None,
) -> Scorer:
    """The scorer of that name, on a device.

    Args:
        name_or_path: a name of `scorer_infos`, a checkpoint file, a Hub repository ("hub:owner/name" or
            "hub:owner/name/file") or a mixture: an expression, "mix(imagereward=1, aesthetic=0.01)", or a small JSON or YAML
            file (see `Mixture`). Of a bare file name the folders of the weights are searched too.
        device: where the network goes; None takes the fastest there is.
        dtype: a torch dtype, "fp32", "fp16", "bf16" or, on a CPU, "int8"; None takes fp16 on a GPU and fp32 on a CPU.
        shared: the same request gives the same instance until it is unloaded, from any thread, and scorers of one CLIP file
            hold the same tower: whoever trains, casts or moves one changes it for all. False gives a scorer of its own: its
            network shares no tensor with any other, and neither `loaded_scorers` nor `unload_all` knows of it.
        on_download: called with (done, total) bytes while weights are downloaded.

    Returns:
        The scorer with its network on the device. It can be pickled: into a process pool, a DataLoader's workers, a file of
        `torch.save` (to be loaded with `weights_only=False`). It goes as the path of its checkpoint while that and its
        weights are as they were loaded, else, and of a `copy.deepcopy` always, with its weights.

    Raises:
        WeightsNotFound: the weights are neither on disk nor on the Hub.
        DownloadFailed: a download ended early or was damaged.
        UnknownCheckpoint: the file is damaged, or no scorer recognises it.
    """
    spec = os.fspath(name_or_path)
    place = device_of(device) if device is not None else default_device()
    precision = Precision.parse(dtype, place)
    # Hosts call from under inference mode; tensors made there could neither be trained through nor moved later.
    with _lock, torch.inference_mode(False):
        scorer = _instance(_resolve(spec, on_download), _Request(place, precision, None if shared else object()))
        scorer.requested = True
        return scorer


@dataclass(frozen=True)
class _Reload:
    """`Reload` of what `load_scorer` gave."""

    source: _Source
    device: torch.device
    precision: Precision
    shared: bool
    state: Hashable  # of the network when it was loaded, in the process that did
    folders: tuple[Path, ...]

    @property
    def spec(self) -> str:
        return self.source.spec

    def fits(self, scorer: Scorer) -> bool:
        return self.source.unchanged() and _state_of(scorer.network) == self.state

    def __call__(self, values: list[Any]) -> Scorer:
        if not self.source.unchanged():
            raise ImageRewardError(
                f"expected the checkpoint of {self.spec!r}, from which a pickled scorer is loaded, as it was when the scorer "
                f"was pickled; it is missing or was changed. Fix: put it back, or pickle copy.deepcopy(scorer), which carries "
                f"its weights"
            )
        with _lock, torch.inference_mode(False):
            add_host_folders(self.folders)
            scorer = self._load(self.shared)
            if scorer.reload is None or not scorer.reload.fits(scorer) or scorer.values() != values:
                scorer = self._load(shared=False)  # the shared one was trained, moved or set differently here
                scorer.set_values(values)
            scorer.requested = True
            return scorer

    def _load(self, shared: bool) -> Scorer:
        return _instance(self.source, _Request(self.device, self.precision, None if shared else object()))


def _state_of(network: nn.Module) -> Hashable:
    """Changes with the network's weights, their places and dtypes, whether they are trained, and its mode."""
    weights = [*network.parameters(), *network.buffers()]
    device = weights[0].device if weights else torch.device("cpu")
    return computation(weights, device), tuple(w.requires_grad for w in weights), network.training


def loaded_scorers() -> list[Scorer]:
    """Every shared scorer that is in memory.

    Returns:
        The scorers, in the order in which they were loaded.
    """
    with _lock:
        return list(_loaded.values())


def _forget(scorer: Scorer) -> None:
    """Drops the shared instance; `Scorer.unload` calls it."""
    with _lock:
        for key in [key for key, value in _loaded.items() if value is scorer]:
            del _loaded[key]


def unload_all() -> None:
    """Frees every shared scorer. Harmless when none is loaded."""
    for scorer in loaded_scorers():
        scorer.unload()


@dataclass(frozen=True)
class _Request:
    """Where a scorer goes, how its network is held, and who alone gets it (None: shared with every equal request)."""

    device: torch.device
    precision: Precision
    owner: object | None = None


class _Source(Protocol):
    """What a name stands for: its identity for sharing, and how to build it. Can be pickled."""

    @property
    def identity(self) -> str: ...

    @property
    def spec(self) -> str:
        """What `load_scorer` takes."""

    def unchanged(self) -> bool:
        """Whether its files are those that it was made of."""

    def build(self, request: _Request) -> Scorer: ...


def _instance(source: _Source, request: _Request) -> Scorer:
    """A source as requested: the shared instance, built when there is none, or a new one of the owner's own."""
    if request.owner is not None:
        return _built(source, request)
    key = (source.identity, str(request.precision), str(request.device))
    if key not in _loaded:
        scorer = _built(source, request)
        scorer.on_unload = _forget
        _loaded[key] = scorer
    return _loaded[key]


def _built(source: _Source, request: _Request) -> Scorer:
    scorer, shared = source.build(request), request.owner is None
    state = _state_of(scorer.network)
    scorer.reload = _Reload(source, request.device, request.precision, shared, state, host_folders())
    return scorer


def _resolve(spec: str, on_download: OnBytes | None) -> _Source:
    if is_mixture(spec):
        return _mixture_source(read_mixture(spec), on_download)
    _require_known(spec)
    infos = scorer_infos()
    if spec.lower() in infos:
        info = infos[spec.lower()]
        if not info.weights:
            return _Weightless(info.name)
        return _File.of(fetch_weight(info.weights[0], on_download), info.name)
    if spec.startswith(HUB):
        return _File.of(_fetch_from_hub(spec[len(HUB) :], on_download))
    return _File.of(Path(spec).expanduser())


def _require_known(spec: str) -> None:
    """Raises ImageRewardError for what is no scorer, no file and no Hub reference; loads and downloads nothing."""
    names = scorer_infos()
    if spec.lower() in names or spec.startswith(HUB) or os.path.exists(os.path.expanduser(spec)):
        return
    raise ImageRewardError(
        f"no scorer and no file is named {spec!r}; the scorers are {', '.join(names)}; "
        f"a Hub repository is written {HUB}owner/name, a mixture mix(name=weight, ...)"
    )


def _mixture_source(mixture: Mixture, on_download: OnBytes | None) -> _Source:
    """Every member is known, then every member's file is there, then the first one is loaded."""
    for member in mixture.weights:
        _require_known(member)
    members = tuple(_resolve(member, on_download) for member in mixture.weights)
    return _Members(members, tuple(map(float, mixture.weights.values())), mixture.normalise)


@dataclass(frozen=True)
class _Weightless:
    """A scorer that needs no file."""

    identity: str  # its name

    @property
    def spec(self) -> str:
        return self.identity

    def unchanged(self) -> bool:
        return True

    def build(self, request: _Request) -> Scorer:
        return _construct(None, scorer_infos()[self.identity], request)


@dataclass(frozen=True)
class _File:
    """A checkpoint, of the scorer of that name or, if empty, of the one that recognises it."""

    path: Path
    state: str  # `spec_identity` when it was resolved
    name: str

    @classmethod
    def of(cls, path: Path, name: str = "") -> _File:
        path.stat()  # raises OSError where there is none
        return cls(path.absolute(), spec_identity(str(path)), name)

    @property
    def identity(self) -> str:
        return f"{self.state}:{self.name}"

    @property
    def spec(self) -> str:
        return self.name or str(self.path)

    def unchanged(self) -> bool:
        return spec_identity(str(self.path)) == self.state

    def build(self, request: _Request) -> Scorer:
        checkpoint = read_checkpoint(self.path)
        return _construct(checkpoint, scorer_infos()[self.name] if self.name else recognise(checkpoint), request)


@dataclass(frozen=True)
class _Members:
    """A mixture of sources."""

    sources: tuple[_Source, ...]
    weights: tuple[float, ...]
    normalise: bool

    @property
    def identity(self) -> str:
        members = [f"{source.identity}={weight}" for source, weight in zip(self.sources, self.weights, strict=True)]
        return f"mix({members}, {self.normalise})"

    @property
    def spec(self) -> str:
        return notation(zip((source.spec for source in self.sources), self.weights, strict=True), self.normalise)

    def unchanged(self) -> bool:
        return all(source.unchanged() for source in self.sources)

    def build(self, request: _Request) -> Scorer:
        members = [_instance(source, request) for source in self.sources]
        return MixScorer(members, list(self.weights), normalise=self.normalise)


def _construct(checkpoint: Checkpoint | None, info: ScorerInfo, request: _Request) -> Scorer:
    cls, precision, device = scorer_classes()[info.name], request.precision, request.device
    if checkpoint is not None and not cls.recognises(checkpoint):
        raise UnknownCheckpoint(f"{checkpoint.path} is no {info.title} checkpoint: {describe(checkpoint)}")
    try:
        # int8 layers replace a tower's own in place, so that only scorers of the same precision may share it.
        with towers_shared_by(str(precision), request.owner):
            scorer = cls.from_checkpoint(checkpoint, info, device=device, dtype=precision.dtype)
    except ImageRewardError:
        raise
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"no room for {info.title} on {device} ({str(error).splitlines()[0]}). Close other programs, or take fp16, "
            f"another device or a smaller scorer."
        ) from error
    except (KeyError, IndexError, ValueError, TypeError, ArithmeticError) as error:  # what odd names and shapes lead to
        raise UnknownCheckpoint(
            f"{checkpoint.path if checkpoint else info.title} has the names of {info.title}, but not its tensors "
            f"({type(error).__name__}: {error})"
        ) from error
    if any(weight.is_meta for weight in scorer.network.parameters()):
        raise ImageRewardError(
            f"{info.title} was loaded without its numbers: new parameters go to the meta device here, as within accelerate's "
            f"init_empty_weights. Fix: call load_scorer outside of that block"
        )
    if precision.int8:
        quantise_linears(scorer.network)
    return scorer


def recognise(checkpoint: Checkpoint) -> ScorerInfo:
    """Which scorer a checkpoint belongs to. Raises UnknownCheckpoint with what was found.

    Where several read the same layout, a converted file's own word decides, then the name under which it was published.
    """
    infos = scorer_infos()
    able = [name for name, cls in scorer_classes().items() if cls.recognises(checkpoint)]
    if checkpoint.metadata.get("scorer") in able:
        return infos[checkpoint.metadata["scorer"]]
    stem = checkpoint.path.stem if checkpoint.path is not None else ""
    published = [name for name in able if stem in {Path(weight.name).stem for weight in infos[name].weights[:1]}]
    if able:
        name = (published or able)[0]
        if doubts := scorer_classes()[name].doubts(checkpoint):
            raise UnknownCheckpoint(f"{checkpoint.path} {doubts}")
        return infos[name]
    raise UnknownCheckpoint(
        f"{checkpoint.path} is no checkpoint of a scorer that is known here ({', '.join(infos)}): {describe(checkpoint)}"
    )


def describe(checkpoint: Checkpoint) -> str:
    """What a foreign file holds, for an error message: another scorer's checkpoint, or the best guess from its names."""
    names = list(checkpoint.tensors)
    others = [info.title for name, info in scorer_infos().items() if scorer_classes()[name].recognises(checkpoint)]
    if others:
        return f"it is a checkpoint of {' or '.join(others)} ({counted(len(names), 'tensor')})"
    kinds = {
        "a Stable Diffusion checkpoint": ("model.diffusion_model.", "unet.", "first_stage_model."),
        "a diffusion transformer": ("double_blocks.", "joint_blocks.", "transformer_blocks."),
        "a ControlNet": ("control_model.", "controlnet_"),
        "a VAE": ("decoder.conv_in.", "decoder.up_blocks."),
        "a LoRA": ("lora_unet_", "lora_te", "lora_transformer_"),
        "a CLIP model": ("vision_model.", "text_model.", "visual.transformer."),
        "a BLIP model": ("visual_encoder.",),
    }
    for kind, prefixes in kinds.items():
        if any(name.startswith(prefixes) for name in names):
            return f"it looks like {kind} ({counted(len(names), 'tensor')})"
    return f"it holds {counted(len(names), 'tensor')}, the first {names[0]!r}" if names else "it holds no tensors"


def _fetch_from_hub(reference: str, on_download: OnBytes | None) -> Path:
    """ "owner/name" or "owner/name/path/of/file" -> the file on this machine."""
    parts = reference.strip("/").split("/")
    if len(parts) < 2:
        raise ImageRewardError(f"expected {HUB}owner/name or {HUB}owner/name/file, got {HUB}{reference}")
    repo = "/".join(parts[:2])
    file = "/".join(parts[2:]) or _checkpoint_in(repo)
    save_as = f"{repo.replace('/', '--')}--{file.replace('/', '--')}"
    weight = WeightFile(repo, file, size=0, sha256="", licence="see its page", save_as=save_as)
    return find_weight(weight) or fetch_weight(weight, on_download)


def _checkpoint_in(repo: str) -> str:
    """The file of a repository that is most likely the checkpoint: safetensors before pickles."""
    try:
        files = hub_files(repo)
    except WeightsNotFound as error:
        raise ImageRewardError(f"{error}. Name one: {HUB}{repo}/FILE") from error
    for suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt"):
        for file in sorted(files):
            if file.endswith(suffix):
                return file
    raise UnknownCheckpoint(f"{HUB}{repo} holds no checkpoint file; its files are {', '.join(sorted(files)[:8])}")
