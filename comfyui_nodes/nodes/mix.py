from __future__ import annotations

import math
from typing import Any

import torch
from comfy_api.latest import io

from ...core.errors import ImageRewardError
from ...core.files.console import counted
from ...core.scorers.mix import MixScorer
from ..host_version import Schema
from ..hosting import expect_reward_model, host_mixture
from ..types import RewardModelType

NEEDED, MOST = 2, 8
SOCKETS = [f"model_{n}" for n in range(1, MOST + 1)]


class MixRewardModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        model = RewardModelType.Input("model", tooltip="A reward model of the mixture; another socket appears below.")
        return Schema(
            node_id="SDImageRewardMix",
            display_name="ImageReward Mix Reward Models",
            description="One reward model out of several: the weighted sum of their scores. The components stay visible in "
            "scores and files.",
            search_aliases=["combine scorers", "ensemble", "weighted reward"],
            inputs=[
                io.Autogrow.Input(
                    "models",
                    io.Autogrow.TemplateNames(model, SOCKETS, min=NEEDED),
                    tooltip="Two to eight reward models; a socket appears for each next one.",
                ),
                io.String.Input(
                    "weights",
                    default="1, 1",
                    tooltip="How much each model counts: a number for each, in their order, with commas between. A model "
                    "without one counts 1; below 0 its score counts against the image.",
                ),
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
    def execute(cls, models: dict[str, Any], weights: str = "", normalise: bool = False) -> io.NodeOutput:
        connected = [expect_reward_model(models[name]) for name in SOCKETS if models.get(name) is not None]
        if len(connected) < NEEDED:
            raise ImageRewardError(f"Expected at least {NEEDED} reward models, got {len(connected)}: connect another.")
        factors = _factors(weights, len(connected))
        with torch.inference_mode(False), torch.no_grad():
            mixed = MixScorer([model.scorer for model in connected], factors, normalise=normalise)
        return io.NodeOutput(host_mixture(mixed, connected))


def _factors(text: str, models: int) -> list[float]:
    """ "1, 0.5" -> a factor for each of `models`."""
    given = [_factor(one.strip()) for one in text.split(",")] if text.strip() else []
    if len(given) > models:
        raise ImageRewardError(
            f"{counted(len(given), 'weight')} ({text}) for {counted(models, 'reward model')}: write one number for each model."
        )
    factors = given + [1.0] * (models - len(given))
    if not any(factors):
        raise ImageRewardError(f"All {len(factors)} weights are 0, so every score would be 0. Raise one of them.")
    return factors


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ImageRewardError(f"Expected numbers with commas between them in 'weights', such as 1, 0.5, got {text!r}.")
    return value
