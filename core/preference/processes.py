"""One process or several: started by `accelerate launch` or `torchrun`, told by the environment both of them set."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..scorers.loading import default_device


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is, and where it computes."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def start(cls, device: str | None = None) -> Processes:
        """Joins the others, if there are any; each takes a GPU of its own."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        place = torch.device(device) if device else default_device()
        if count == 1:
            return cls(0, 1, place)
        if place.type == "cuda" and place.index is None:
            place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(place)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
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
            torch.distributed.all_reduce(values)
        return values

    def union(self, names: set[str]) -> set[str]:
        """What any process has."""
        if self.count == 1:
            return names
        gathered: list[set[str]] = [set() for _ in range(self.count)]
        torch.distributed.all_gather_object(gathered, names)
        return set().union(*gathered)

    def wait(self) -> None:
        if self.count > 1:
            torch.distributed.barrier()

    def stop(self) -> None:
        if self.count > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
