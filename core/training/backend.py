"""Where an update is computed: in one process (torch alone), or in several that `accelerate launch` or torchrun started."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ImageRewardError, extra_needed
from ..networks.devices import collective_backend, default_device, device_of

HOW_MANY = "WORLD_SIZE"  # set by `accelerate launch` and torchrun


def start_backend(device: torch.device | str | None = None) -> Backend:
    """The backend for this process, or for the several that were started together.

    Args:
        device: where to compute; the fastest there is by default. Of several processes each takes a GPU of its own.

    Raises:
        ImageRewardError: the device cannot be used, accelerate is missing, or the processes cannot find each other.
    """
    given = os.environ.get(HOW_MANY) or "1"
    if not given.isdigit() or int(given) < 1:
        raise ImageRewardError(f"expected {HOW_MANY}, the number of processes, to be 1 or more, got {given!r}")
    place = device_of(device) if device else default_device()
    return Backend(place) if int(given) == 1 else Accelerated(place)


class Backend:
    """One process on one device."""

    rank, world = 0, 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.scaler = _gradient_scaler(enabled=False)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and messages."""
        return self.rank == 0

    def prepare(
        self, module: nn.Module, optimizer: Optimizer, *, float16: bool = False
    ) -> tuple[Callable[..., Any], Optimizer]:
        """What to call for the module and the optimizer to step. float16: scale the loss, whose gradients would underflow."""
        self.scaler = _gradient_scaler(enabled=float16 and self.device.type == "cuda")
        return module, optimizer

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """Around one forward and backward pass; processes exchange gradients in the last of an update only."""
        return nullcontext()

    @property
    def loss_scale(self) -> float:
        """What `backward` multiplies the loss by at the moment."""
        return float(self.scaler.get_scale())

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def clip(self, parameters: list[nn.Parameter], optimizer: Optimizer, norm: float) -> Tensor:
        """Unscale the gradients and clip them to `norm`; returns the norm they had."""
        self.scaler.unscale_(optimizer)
        return nn.utils.clip_grad_norm_(parameters, norm)

    def step(self, optimizer: Optimizer, *, apply: bool = True) -> None:
        """End an update, with or without a change of the weights."""
        if apply:
            self.scaler.step(optimizer)
        self.scaler.update()

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes of each value."""
        return values

    def mean(self, values: Tensor) -> Tensor:
        return self.total(values) / self.world

    def gather(self, values: Tensor) -> Tensor:
        """The values of all processes in the order of their ranks, along axis 0; each process holds equally many."""
        return values

    def union(self, names: set[str]) -> set[str]:
        """The names that any process has."""
        return names

    def wait(self) -> None:
        """Return once every process has come here."""

    def stop(self) -> None:
        """Leave the group of processes, at the end of the program."""


class Accelerated(Backend):
    """Several processes through Hugging Face accelerate: DDP, and FSDP or DeepSpeed where `accelerate config` says so."""

    def __init__(self, device: torch.device) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.utils import InitProcessGroupKwargs
        except ImportError as error:
            raise ImageRewardError(f"several processes need accelerate: {extra_needed('train')}") from error
        if not torch.distributed.is_available():
            raise ImageRewardError("this build of torch cannot train with several processes: start a single one")
        # DDP imports it. Imported while a group exists, it keeps that group for good, as default arguments (torch 2.13).
        from torch.distributed.nn import functional  # noqa: F401

        group = InitProcessGroupKwargs(backend=collective_backend(device))
        try:
            accelerator = Accelerator(mixed_precision="no", cpu=device.type == "cpu", kwargs_handlers=[group])
        except (ValueError, RuntimeError, AttributeError) as error:  # the last: accelerate 1 on the CPU with torch 2.1
            raise ImageRewardError(
                f"the {os.environ.get(HOW_MANY)} processes that {HOW_MANY} announces cannot meet ({error}). Start them with "
                f"accelerate launch or torchrun, or unset {HOW_MANY}."
            ) from error
        super().__init__(accelerator.device)
        self.accelerator = accelerator
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self._wrapped: nn.Module | None = None
        atexit.register(self.stop)

    def prepare(
        self, module: nn.Module, optimizer: Optimizer, *, float16: bool = False
    ) -> tuple[Callable[..., Any], Optimizer]:
        super().prepare(module, optimizer, float16=float16)
        self._wrapped, prepared = self.accelerator.prepare(module, optimizer)
        return self._call, prepared

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """The wrapped module, which nobody but the backend may hold: see `stop`."""
        assert self._wrapped is not None, "the processes have left their group"
        return self._wrapped(*args, **kwargs)

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.accelerator.no_sync(self._wrapped)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(self.scaler.scale(loss))

    def clip(self, parameters: list[nn.Parameter], optimizer: Optimizer, norm: float) -> Tensor:
        self.scaler.unscale_(optimizer)
        return self.accelerator.clip_grad_norm_(parameters, norm)

    def total(self, values: Tensor) -> Tensor:
        return self.accelerator.reduce(values.to(self.device), "sum")

    def gather(self, values: Tensor) -> Tensor:
        return self.accelerator.gather(values.to(self.device))

    def union(self, names: set[str]) -> set[str]:
        from accelerate.utils import gather_object

        return set(gather_object(sorted(names)))

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def stop(self) -> None:
        """Leave the group and end its threads.

        A thread of Gloo drops the tensors of a collective some time after the collective is done. If it comes to that while
        the interpreter ends, it aborts the process. The threads end with the group, which lives as long as a DDP module.
        """
        atexit.unregister(self.stop)
        if torch.distributed.is_initialized():
            self.accelerator.end_training()
            self.accelerator.free_memory()
            self._wrapped = None
            gc.collect()


def _gradient_scaler(*, enabled: bool) -> Any:
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)  # before torch 2.3
