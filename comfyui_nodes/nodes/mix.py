from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ...core.errors import ImageRewardError
from ...core.scorers.mix import MixScorer
from ..host_version import Schema
from ..hosting import expect_reward_model, host_mixture
from ..types import RewardModelType

MOST = 8
NEEDED = 2


class MixRewardModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardMix",
            display_name="ImageReward Mix Reward Models",
            description="One reward model out of several: the weighted sum of their scores. The components stay visible in "
            "scores and files.",
            search_aliases=["combine scorers", "ensemble", "weighted reward"],
            inputs=[
                *(one for n in range(1, MOST + 1) for one in _pair(n)),
                io.Boolean.Input(
                    "normalise",
                    default=False,
                    optional=True,
                    tooltip="Brings the scores to a common scale first (score minus its typical mean, over its typical "
                    "spread), so that equal weights mean equal influence.",
                ),
            ],
            outputs=[RewardModelType.Output("mixed_model", tooltip="Scores with all of them.")],
        )

    @classmethod
    def execute(cls, normalise: bool = False, **pairs: Any) -> io.NodeOutput:
        chosen = [n for n in range(1, MOST + 1) if pairs.get(f"model_{n}") is not None]
        models = [expect_reward_model(pairs[f"model_{n}"]) for n in chosen]
        weights = [float(pairs.get(f"weight_{n}", 1.0)) for n in chosen]
        if not any(weights):
            raise ImageRewardError(f"All {len(weights)} weights are 0, so every score would be 0: raise one of them.")
        with torch.inference_mode(False), torch.no_grad():
            mixed = MixScorer([model.scorer for model in models], weights, normalise=normalise)
        return io.NodeOutput(host_mixture(mixed, models))


def _pair(n: int) -> list[io.Input]:
    optional = n > NEEDED
    return [
        RewardModelType.Input(f"model_{n}", optional=optional, tooltip=f"Reward model {n} of at most {MOST}."),
        io.Float.Input(
            f"weight_{n}",
            default=1.0,
            min=-10.0,
            max=10.0,
            step=0.05,
            optional=optional,
            tooltip=f"How much model {n} counts; below 0 its score counts against the image.",
        ),
    ]
