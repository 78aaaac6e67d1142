"""One process or several: started by `accelerate launch` or `torchrun`, told by the environment both of them set."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ImageRewardError
from ..networks.devices import collective_backend, default_device, device_of


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is, and where it computes."""

    rank: int
    count: int
    device: torch.device
    # Every collective stays here until the end, or gloo's thread is the last to hold it and wants the GIL to free its
    # tensors: torch 2.1's `destroy_process_group` waits for that thread without letting the GIL go, and in any torch
    # an interpreter that is about to end aborts.
    _collectives: list[Any] = field(default_factory=list)

    @classmethod
    def start(cls, device: str | None = None) -> Processes:
        """Joins the others, if there are any; each takes a GPU of its own. Raises ImageRewardError if they cannot meet."""
        count = _count_from_environment()
        place = device_of(device) if device else default_device()
        if count == 1:
            return cls(0, 1, place)
        if place.type == "cuda" and place.index is None:
            place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(place)
        _meet(place)
        return cls(torch.distributed.get_rank(), count, place)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The same module, its gradients averaged over the processes."""
        return module if self.count == 1 else nn.parallel.DistributedDataParallel(module)

    def unsynchronised(self, module: nn.Module) -> AbstractContextManager[None]:
        """Gradients of this batch are only added up, not averaged yet."""
        return module.no_sync() if isinstance(module, nn.parallel.DistributedDataParallel) else nullcontext()

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        values = values.to(self.device)
        if self.count > 1:
            collective = torch.distributed.all_reduce(values, async_op=True)
            collective.wait()
            self._collectives.append(collective)
        return values

    def union(self, names: set[str], known: Iterable[str]) -> set[str]:
        """The names that any process has. known: all there are, the same in every process."""
        ordered = sorted(set(known))
        counts = self.total(torch.tensor([name in names for name in ordered], dtype=torch.float32))
        return {name for name, count in zip(ordered, counts.tolist(), strict=True) if count}

    def wait(self) -> None:
        if self.count > 1:
            torch.distributed.barrier()

    def stop(self) -> None:
        if self.count > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _count_from_environment() -> int:
    given = os.environ.get("WORLD_SIZE") or "1"
    if not given.isdigit() or int(given) < 1:
        raise ImageRewardError(f"expected WORLD_SIZE, how many processes train together, to be a count, got {given!r}")
    return int(given)


def _meet(device: torch.device) -> None:
    if not torch.distributed.is_available():
        raise ImageRewardError(
            "this build of torch cannot train on several processes: start one, without accelerate launch"
        )
    if torch.distributed.is_initialized():
        return
    try:
        torch.distributed.init_process_group(collective_backend(device))
    except (ValueError, RuntimeError) as error:
        raise ImageRewardError(
            f"the {os.environ.get('WORLD_SIZE')} processes that WORLD_SIZE tells of cannot meet ({error}). Start them with "
            f"accelerate launch or torchrun, or unset WORLD_SIZE."
        ) from error
