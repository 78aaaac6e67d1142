from __future__ import annotations

from typing import Any

import comfy.model_management as model_management
import comfy.utils
from comfy_api.latest import io

from ...core.scorers.base import Scorer
from ...core.scorers.loading import INT8, Precision, load_scorer
from ...core.scorers.registry import scorer_infos
from .. import folders, stamps
from ..host_version import Schema
from ..hosting import host, scoring_device
from ..types import RewardModelType

DTYPES = ["auto", "fp32", "fp16", "bf16", INT8]


class LoadRewardModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = [*scorer_infos(), *folders.model_files()]
        return Schema(
            node_id="SDImageRewardLoad",
            display_name="ImageReward Load Reward Model",
            description="Loads a model that scores images. ImageReward reads the prompt too; 'technical' needs no "
            "download. Files lie in models/ImageReward.",
            search_aliases=["reward model", "aesthetic", "scorer", "human preference"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=names,
                    default="imagereward" if "imagereward" in names else names[0],
                    tooltip="A model by name (downloaded once, at first use), or a file in models/ImageReward: a "
                    "checkpoint, or a mixture of models (.json, .yaml).",
                ),
                io.Combo.Input(
                    "dtype",
                    options=DTYPES,
                    default="auto",
                    tooltip="Precision of the weights. auto: fp16 on a GPU, fp32 on the CPU. fp16 moves a score by up to "
                    "0.02; bf16 and int8 (CPU alone, faster) by more.",
                    advanced=True,
                ),
                io.Combo.Input(
                    "device",
                    options=["auto", "cpu"],
                    default="auto",
                    tooltip="auto: where ComfyUI samples. cpu: leaves the graphics memory alone, slower.",
                    advanced=True,
                ),
            ],
            outputs=[RewardModelType.Output("reward_model", tooltip="Scores images; connect it to ImageReward Score.")],
        )

    @classmethod
    def fingerprint_inputs(cls, model: Any, **_: Any) -> Any:
        """A replaced file is read again; a name stays what it is."""
        return stamps.stamp([model], lambda: [folders.model_path(model)])

    @classmethod
    def execute(cls, model: str, dtype: str, device: str) -> io.NodeOutput:
        target = scoring_device(device)
        return io.NodeOutput(host(_load(model, Precision.parse(dtype, target)), target))


def _load(model: str, precision: Precision) -> Scorer:
    """Loaded into the CPU's memory; ComfyUI moves it to the device when it is used."""
    bar = comfy.utils.ProgressBar(1)

    def on_download(done: int, total: int) -> None:
        bar.update_absolute(done, max(total, 1))
        model_management.throw_exception_if_processing_interrupted()

    return load_scorer(
        folders.model_path(model) or model,
        device="cpu",
        dtype=INT8 if precision.int8 else precision.dtype,
        on_download=on_download,
    )
