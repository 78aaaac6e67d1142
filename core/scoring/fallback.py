"""Scoring where memory is short: ask the host for room, then a smaller batch, then the CPU. For every host alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..errors import OutOfMemory
from ..networks.devices import is_out_of_memory
from ..scorers.base import Scorer
from .score import ImageScores, Prompts, score_images

WORKING_BYTES = 512 << 20  # activations of one image and the allocator's slack, on top of the weights

MakeRoom = Callable[[int, torch.device], None]  # (bytes dtype free, device); frees what it can


def dtype_on(device: torch.device | str, dtype: torch.dtype | None = None) -> torch.dtype:
    """The dtype to run in: `dtype`, or float16 on a GPU and float32 on the CPU, which has no float16 before torch 2.2."""
    on_cpu = torch.device(device).type == "cpu"
    if dtype is None or (on_cpu and dtype == torch.float16):
        return torch.float32 if on_cpu else torch.float16
    return dtype


def move_if_room(scorer: Scorer, device: torch.device | str, *, make_room: MakeRoom | None = None) -> bool:
    """Moves a scorer to a device, for which the host is asked to make room. False: there is none, it is on the CPU."""
    device = torch.device(device)
    if make_room is not None and device.type != "cpu":
        make_room(scorer.memory() + WORKING_BYTES, device)
    try:
        scorer.to(device)
    except Exception as error:
        if device.type == "cpu" or not _no_room(error):
            raise
        scorer.to("cpu")  # what had already moved comes back
        return False
    return True


def score_with_fallback(
    scorer: Scorer,
    images: Any,
    prompts: Prompts,
    *,
    on_cpu: Callable[[], Scorer],
    make_room: MakeRoom | None = None,
    **options: Any,
) -> ImageScores:
    """`score_images`, which halves its batch by itself; when not even one image fits, the host is asked for room, then the CPU.

    on_cpu: gives the same scorer on the CPU, in a dtype that runs there. options: what else `score_images` takes.
    """
    home = scorer.device
    try:
        return score_images(scorer, images, prompts, **options)
    except Exception as error:
        if home.type == "cpu" or not _no_room(error):
            raise
    if make_room is not None:
        make_room(WORKING_BYTES, home)
        try:
            return score_images(scorer, images, prompts, **options)
        except Exception as error:
            if not _no_room(error):
                raise
    return score_images(on_cpu(), images, prompts, **options)


def _no_room(error: BaseException) -> bool:
    return isinstance(error, OutOfMemory) or is_out_of_memory(error)
