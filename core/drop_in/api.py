"""The functions of the `image-reward` package, so that its users change nothing but the import.

`import sd_imagereward as RM; model = RM.load("ImageReward-v1.0"); model.score(prompt, image)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import ImageRewardError, UnknownCheckpoint, UnknownName
from ..networks.devices import default_device, device_of
from ..scorers.loading import describe
from ..scorers.registry import scorer_classes, scorer_infos
from ..weights.catalogue import WeightFile
from ..weights.download import fetch_weight
from ..weights.read import Checkpoint, read_checkpoint
from .folders import look_into
from .image_reward import ImageReward, image_reward_of
from .scores import aesthetic_score_of, blip_score_of, clip_score_of

_MODELS = {"ImageReward-v1.0": "imagereward"}
_SCORES = {"CLIP": "clip", "BLIP": "blip", "Aesthetic": "aesthetic"}
_REPOSITORY = "THUDM/ImageReward"

Device = torch.device | str | int | None
M = TypeVar("M", bound=nn.Module)


def available_models() -> list[str]:
    """The names that `load` takes."""
    return list(_MODELS)


def available_scores() -> list[str]:
    """The names that `load_score` takes."""
    return list(_SCORES)


def load(
    name: str | os.PathLike[str] = "ImageReward-v1.0",
    device: Device = None,
    download_root: str | None = None,
    med_config: str | None = None,
) -> ImageReward:
    """The ImageReward model by name or checkpoint file, in float32 and eval mode; each call gives a model of its own.

    device: None takes the fastest there is. download_root: a folder to look into and download to. med_config is not needed
    and not read: a checkpoint tells its sizes. Raises UnknownName, WeightsNotFound, DownloadFailed, UnknownCheckpoint.
    """
    look_into(download_root)
    if name in _MODELS:
        path = fetch_weight(scorer_infos()[_MODELS[str(name)]].weights[0])
    elif os.path.isfile(name):
        path = Path(name)
    else:
        raise UnknownName(f"Model {name} not found; available models = {available_models()}, or a checkpoint file")
    given = _given(device)
    with _plain_tensors():
        return _with_numbers(image_reward_of(_checkpoint(path, "imagereward"), given, device_of(given)))


def load_score(name: str = "CLIP", device: Device = None, download_root: str | None = None) -> Any:
    """The reference's other scores, CLIP, BLIP and Aesthetic, in float32 and eval mode; see `load`."""
    if name not in _SCORES:
        raise UnknownName(f"Score {name} not found; available scores = {available_scores()}")
    look_into(download_root)
    path, given = fetch_weight(scorer_infos()[_SCORES[name]].weights[0]), _given(device)
    with _plain_tensors():
        if name == "CLIP":
            return _with_numbers(clip_score_of(path, given))
        checkpoint = _checkpoint(path, _SCORES[name])
        return _with_numbers((blip_score_of if name == "BLIP" else aesthetic_score_of)(checkpoint, given))


def ImageReward_download(url: str, root: str) -> str:  # noqa: N802 - the reference's name
    """The file of THUDM/ImageReward that an address ends in: on this machine already, or downloaded into `root`."""
    file = os.path.basename(url)
    beside = os.path.join(os.path.expanduser(root), file)
    if os.path.isfile(beside):
        return beside
    look_into(root)
    return str(fetch_weight(WeightFile(_REPOSITORY, file, size=0, sha256="", licence="Apache-2.0")))


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Tensors that can be trained and moved, where they are told to be, whatever mode or default device the caller is in."""
    with torch.inference_mode(False), torch.device("cpu"):
        yield


def _with_numbers(model: M) -> M:
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        raise ImageRewardError(
            f"{type(model).__name__} was loaded without its numbers: new parameters go to the meta device here, as within "
            f"accelerate's init_empty_weights. Fix: load it outside of that block, on a device that holds numbers"
        )
    return model


def _given(device: Device) -> torch.device | str | int:
    return str(default_device()) if device is None else device


def _checkpoint(path: Path, scorer: str) -> Checkpoint:
    checkpoint = read_checkpoint(path)
    if not scorer_classes()[scorer].recognises(checkpoint):
        title = scorer_infos()[scorer].title
        raise UnknownCheckpoint(f"{path} is not a checkpoint of {title}: {describe(checkpoint)}")
    return checkpoint
