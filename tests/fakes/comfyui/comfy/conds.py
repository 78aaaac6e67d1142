"""Stand-in of `comfy.conds`."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class CONDRegular:
    def __init__(self, cond: Tensor) -> None:
        self.cond = cond

    def process_cond(self, batch_size: int, **kwargs: Any) -> CONDRegular:
        """The same for a batch of that size."""
        times = -(-batch_size // len(self.cond))
        return type(self)(self.cond.repeat(times, *[1] * (self.cond.ndim - 1))[:batch_size])


class CONDCrossAttn(CONDRegular): ...
