"""The two types that travel between our nodes."""

from __future__ import annotations

from comfy_api.latest import io

RewardModelType = io.Custom("REWARD_MODEL")  # values: hosting.RewardModel
ScoresType = io.Custom("SCORES")  # values: scores.Scores
