"""[CLS] states of a frozen model for pictures and prompts, computed once and kept: training a head then costs seconds."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UnknownCheckpoint
from ..files.atomic import replacing_path
from ..weights.read import read_checkpoint, read_metadata
from .batches import PromptReader
from .rankings import Pair
from .reward_model import RewardModel
from .score_log import key_of
from .sources import Item, Pictures, StatePairs, items_of, numbered

log = logging.getLogger(__name__)


class States(NamedTuple):
    """A row for each item; rows of pictures that could not be read are zero and not `readable`."""

    rows: Tensor  # (N, width) float32
    readable: Tensor  # (N,) bool
    unreadable: tuple[str, ...]


@torch.no_grad()
def compute_states(
    model: RewardModel,
    items: Sequence[Item],
    reader: PromptReader,
    *,
    device: torch.device,
    batch_size: int = 8,
    workers: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> States:
    """The [CLS] state of every item. on_progress(done, total) after each batch."""
    model.eval()
    rows: list[Tensor] = []
    readable: list[Tensor] = []
    unreadable: list[str] = []
    positions = [range(i, min(i + batch_size, len(items))) for i in range(0, len(items), batch_size)]
    for batch in Pictures(items, model.image_size, reader, workers).batches(positions):
        states = model.states(batch.pixels.to(device), batch.text.to(device)).cpu()
        rows.append(states * batch.readable[:, None])
        readable.append(batch.readable)
        unreadable += batch.unreadable
        if on_progress is not None:
            on_progress(sum(map(len, rows)), len(items))
    return States(torch.cat(rows), torch.cat(readable), tuple(unreadable))


def cached_states(path: Path, identity: str, items: Sequence[Item], compute: Callable[[], States]) -> States:
    """`compute()`, or what an earlier call with the same model, pictures and prompts kept in `path`."""
    digest = hashlib.sha256(identity.encode())
    for image, prompt in items:
        digest.update("\0".join(key_of(image, prompt)).encode())
    key = digest.hexdigest()
    tensors = _read(path, key)
    if tensors is not None:
        readable = tensors["readable"].bool()
        names = tuple(str(image) for (image, _), ok in zip(items, readable.tolist(), strict=True) if not ok)
        log.info("states of %d pictures taken from %s", len(items), path)
        return States(tensors["rows"], readable, names)
    states = compute()
    _save(states, path, key)
    return states


def state_pairs(pairs: Sequence[Pair], items: Sequence[Item], states: States) -> StatePairs:
    """Pairs as rows of the table; those of unreadable pictures are left out."""
    gone = {item for item, readable in zip(items, states.readable.tolist(), strict=True) if not readable}
    kept = [pair for pair in pairs if gone.isdisjoint(items_of([pair]))]
    return StatePairs(states.rows, *numbered(kept, items))


def _read(path: Path, key: str) -> Mapping[str, Tensor] | None:
    """What is kept under that key; None if it is something else, damaged, or nothing."""
    if not path.is_file() or read_metadata(path).get("key") != key:
        return None
    try:
        return read_checkpoint(path).read()
    except UnknownCheckpoint as error:
        log.warning("states are computed anew: %s", error)
        return None


def _save(states: States, path: Path, key: str) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_path(path) as temporary:
        save_file({"rows": states.rows, "readable": states.readable.to(torch.uint8)}, temporary, metadata={"key": key})
