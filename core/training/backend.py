"""Where an update runs: alone on one device (the default, torch only), or on many through `accelerate launch`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ImageRewardError, extra_needed


class Trainee(Protocol):
    """What is trained: its network, and the same as a backend wrapped it (DDP, FSDP)."""

    network: nn.Module
    wrapped: nn.Module | None


class Backend(Protocol):
    rank: int
    world: int
    scales: bool
    """Gradients are scaled for float16; `step` itself then leaves out those that overflowed."""

    def prepare(self, trainee: Trainee, optimizer: Optimizer) -> Optimizer:
        """Make the trainee's network and the optimizer fit for this backend."""

    def accumulating(self, trainee: Trainee, last: bool) -> AbstractContextManager[Any]:
        """Around one forward and backward pass; gradients are exchanged on the last of an update only."""

    @property
    def loss_scale(self) -> float:
        """What `backward` multiplies the loss by at the moment."""

    def backward(self, loss: Tensor) -> None: ...

    def clip(self, parameters: list[nn.Parameter], optimizer: Optimizer, norm: float) -> Tensor:
        """Clip the gradients of all to the norm; returns the norm they had."""

    def step(self, optimizer: Optimizer) -> None: ...

    def skip(self, optimizer: Optimizer) -> None:
        """Instead of `step`, when the gradients are not to be used."""

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes of each value."""

    def gather(self, values: Tensor) -> Tensor:
        """The values of all processes, rank after rank, along axis 0; every process holds equally many."""

    def wait(self) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class SingleProcess:
    """One process on one device. float16 networks get a gradient scaler, as the loss is around 1e-3."""

    rank, world = 0, 1

    def __init__(self, dtype: str = "float32", device: torch.device | str = "cpu"):
        self.scales = dtype == "float16" and torch.device(device).type == "cuda"
        if hasattr(torch.amp, "GradScaler"):
            self.scaler = torch.amp.GradScaler("cuda", enabled=self.scales)
        else:  # before torch 2.3
            self.scaler = torch.cuda.amp.GradScaler(enabled=self.scales)

    def prepare(self, trainee: Trainee, optimizer: Optimizer) -> Optimizer:
        return optimizer

    def accumulating(self, trainee: Trainee, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    @property
    def loss_scale(self) -> float:
        return float(self.scaler.get_scale())

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call, unused-ignore]

    def clip(self, parameters: list[nn.Parameter], optimizer: Optimizer, norm: float) -> Tensor:
        self.scaler.unscale_(optimizer)
        return nn.utils.clip_grad_norm_(parameters, norm)

    def step(self, optimizer: Optimizer) -> None:
        self.scaler.step(optimizer)
        self.scaler.update()

    def skip(self, optimizer: Optimizer) -> None:
        self.scaler.update()

    def mean(self, values: Tensor) -> Tensor:
        return values

    def gather(self, values: Tensor) -> Tensor:
        return values

    def wait(self) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"scaler": self.scaler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state["scaler"])


class Accelerated:
    """Hugging Face accelerate: DDP, and FSDP or DeepSpeed where `accelerate config` says so. Nothing home-made."""

    def __init__(self, accelerator: Any):
        self.accelerator = accelerator
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.scales = accelerator.scaler is not None

    @classmethod
    def start(cls, dtype: str = "float32", cpu: bool = False) -> Accelerated:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise ImageRewardError(f"several processes need accelerate: {extra_needed('refl')}") from error
        # The networks' own types stay ours; accelerate is asked for its gradient scaler alone.
        return cls(Accelerator(mixed_precision="fp16" if dtype == "float16" and not cpu else "no", cpu=cpu))

    def prepare(self, trainee: Trainee, optimizer: Optimizer) -> Optimizer:
        trainee.wrapped, prepared = self.accelerator.prepare(trainee.network, optimizer)
        return prepared

    def accumulating(self, trainee: Trainee, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.accelerator.no_sync(trainee.wrapped)

    @property
    def loss_scale(self) -> float:
        return float(self.accelerator.scaler.get_scale()) if self.scales else 1.0

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, parameters: list[nn.Parameter], optimizer: Optimizer, norm: float) -> Tensor:
        return self.accelerator.clip_grad_norm_(parameters, norm)

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    def skip(self, optimizer: Optimizer) -> None:
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()

    def mean(self, values: Tensor) -> Tensor:
        return self.accelerator.reduce(values.to(self.accelerator.device), "mean")

    def gather(self, values: Tensor) -> Tensor:
        return self.accelerator.gather(values.to(self.accelerator.device))

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {"scaler": scaler.state_dict() if scaler is not None else {}}

    def restore(self, state: dict[str, Any]) -> None:
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
