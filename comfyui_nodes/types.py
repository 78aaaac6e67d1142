"""The types that travel between our nodes."""

from __future__ import annotations

from comfy_api.latest import io

RewardModelType = io.Custom("REWARD_MODEL")  # values: hosting.RewardModel
ScoresType = io.Custom("SCORES")  # values: scores.Scores
LoraModelType = io.Custom("LORA_MODEL")  # values: dict of tensors by kohya key, as the stock trainer's
LossMapType = io.Custom("LOSS_MAP")  # values: {"loss": [float, ...]}, one an update
TriesType = io.Custom("IMAGEREWARD_TRIES")  # values: tries.Start
FoundType = io.Custom("IMAGEREWARD_FOUND")  # values: tries.Found
