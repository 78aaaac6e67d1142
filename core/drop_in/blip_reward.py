"""What ImageReward and BLIPScore have alike: BLIP with the preprocessing that its size asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .blip import BLIP_Pretrain, BlipSizes
from .preprocess import Preprocess
from .rewards import RewardModule


class BlipReward(RewardModule):
    """med_config: a JSON file with the text tower's sizes; None takes BLIP's own, or `sizes`. beside: see `BLIP_Pretrain`."""

    def __init__(
        self,
        med_config: Any = None,
        device: torch.device | str | int = "cpu",
        *,
        sizes: BlipSizes | None = None,
        beside: Path | None = None,
    ) -> None:
        super().__init__(device)
        near = beside or (None if med_config is None else Path(med_config))
        self.blip = BLIP_Pretrain(med_config, 224, "large", sizes=sizes, beside=near)
        self.preprocess = Preprocess(self.blip.image_size)
