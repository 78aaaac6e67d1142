"""What a run shows: curves, and pictures before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from ...core.pages.charts import line_chart

if TYPE_CHECKING:
    from .training import Trained

GAP = 8  # pixels between the pictures


def reward_curve(trained: Trained) -> Image.Image:
    """Changes since the untuned model, as the two scorers have ranges of their own."""
    untuned = trained.evaluations[0]
    rewards = [(float(one["update"]), float(one["reward"]) - untuned.mean_reward) for one in trained.records]
    fixed = [(float(one.update), one.mean_reward - untuned.mean_reward) for one in trained.evaluations]
    held_out = [(float(one.update), one.mean_held_out - untuned.mean_held_out) for one in trained.evaluations]
    lines = {"in training": rewards, "fixed pictures": fixed, "fixed pictures, held out": held_out}
    return line_chart(f"{trained.record.reward} since the untuned model", lines, across="updates").image()


def before_and_after(trained: Trained) -> Tensor:
    """(N, H, 2 W + gap, 3) float32 in 0..1: each picture untuned on the left, tuned on the right."""
    before, after = (pictures.float() / 255 for pictures in (trained.before, trained.after))
    gap = torch.ones(*before.shape[:3], GAP)
    return torch.cat([before, gap, after], dim=3).permute(0, 2, 3, 1).contiguous()  # BCHW -> BHWC
