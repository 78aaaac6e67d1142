from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ...core.refl.lora_files import tensors_of
from ...core.refl.result import ReflResult
from .. import stamps
from ..captions import show
from ..host_version import Schema
from ..hosting import expect_reward_model
from ..pictures import to_image
from ..refl import lora_paths
from ..refl import prompts as prompt_sources
from ..refl.results import Memo, before_and_after, reward_curve, summary
from ..types import LoraModelType, LossMapType
from .train_refl_widgets import config_of, inputs, network_dtype

_last: Memo[ReflResult] = Memo()


class TrainReflLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardTrainReFL",
            display_name="ImageReward Train ReFL LoRA",
            description="Trains a LoRA whose pictures the reward model scores higher: it draws from your prompts, scores the "
            "pictures and follows the gradient of the score back into the model (reward feedback learning). No pictures are "
            "needed.",
            search_aliases=["refl", "train lora", "reward feedback learning", "rlhf", "draft"],
            is_input_list=True,
            is_output_node=True,
            inputs=inputs(),
            outputs=[
                io.Model.Output("tuned_model", tooltip="The model with the LoRA at strength 1."),
                LoraModelType.Output("lora", tooltip="The LoRA, for the stock Load LoRA Model and Save LoRA Weights."),
                LossMapType.Output("loss_map", tooltip="The loss of each update, for the stock Plot Loss Graph."),
                io.Int.Output("updates", tooltip="How many updates the run made."),
                io.Image.Output("curve", tooltip="Reward and held-out scores over the run."),
                io.Image.Output("before_after", tooltip="Fixed pictures, untuned on the left, tuned on the right."),
                io.String.Output("file", tooltip="The saved LoRA, as Load LoRA lists it."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, prompts_file: Sequence[Any], continue_from: Sequence[Any], **_: Any) -> Any:
        """A changed file trains again."""
        prompts, lora = prompts_file[0], continue_from[0]
        return stamps.stamp(
            [prompts, lora], lambda: [prompt_sources.prompt_file_path(prompts), lora_paths.lora_path(lora) or None]
        )

    @classmethod
    def execute(
        cls,
        model: list[Any],
        clip: list[Any],
        vae: list[Any],
        reward_model: list[Any],
        held_out: Sequence[Any] = (),
        negative: Sequence[Any] = (),
        **widgets: Any,
    ) -> io.NodeOutput:
        # Here, so that a host whose sampling differs costs the user this node and not the whole pack.
        import comfy.sd

        from ..refl.training import Job, train

        reward = expect_reward_model(reward_model[0])
        others = [expect_reward_model(one) for one in held_out if one is not None]
        config, dtype = config_of(widgets), network_dtype(widgets)
        path = lora_paths.free_path(widgets["file_name"][0])
        networks, leads_away = (model[0], clip[0], vae[0], reward), negative[0] if negative else None
        objects = (*networks, leads_away, *others)
        values = (config, dtype, _stamp(config.lora_from))
        result = _last.get(objects, values)
        if result is None:
            result = train(Job(*networks, others, leads_away, config, dtype), rescue=path)
            _last.put(objects, values, result)
        path = result.write_lora(path)
        assert result.lora is not None
        tensors = tensors_of(result.lora)
        tuned, _ = comfy.sd.load_lora_for_models(model[0], None, tensors, 1.0, 0.0)
        curve, name = reward_curve(result), lora_paths.shown_name(path)
        return io.NodeOutput(
            tuned,
            tensors,
            {"loss": [float(one["loss"]) for one in result.records]},
            result.updates,
            to_image(curve),
            before_and_after(result),
            name,
            ui={**show(curve), "text": [summary(result, name)]},
        )


def _stamp(path: str | None) -> tuple[float, int] | None:
    return (os.path.getmtime(path), os.path.getsize(path)) if path else None
