from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ...core.refl.lora_files import tensors_of
from ..captions import show
from ..host_version import node_schema
from ..hosting import RewardModel, expect_reward_model
from ..pictures import to_image
from ..refl import lora_paths
from ..refl import prompts as prompt_sources
from ..refl.memo import Memo
from ..refl.pictures import before_and_after, reward_curve
from ..types import LoraModelType, LossMapType
from .train_refl_widgets import config_of, inputs, network_dtype

if TYPE_CHECKING:
    from ..refl.training import Trained

_last: Memo[Trained] = Memo()


class TrainReflLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "SDImageRewardTrainReFL",
            "ImageReward Train ReFL LoRA",
            description="Trains a LoRA whose pictures the reward model likes better: it draws from your prompts, scores, "
            "and follows the gradient of the score back into the model (reward feedback learning). No pictures are needed.",
            search_aliases=["refl", "train lora", "reward feedback learning", "rlhf", "draft"],
            is_input_list=True,
            is_output_node=True,
            inputs=inputs(),
            outputs=[
                io.Model.Output("tuned_model", tooltip="The model with the LoRA at strength 1."),
                LoraModelType.Output("lora", tooltip="The LoRA, for the stock Load LoRA Model and Save LoRA Weights."),
                LossMapType.Output("loss_map", tooltip="The loss of each update, for the stock Plot Loss Graph."),
                io.Int.Output("updates", tooltip="How many updates the run made."),
                io.Image.Output("curve", tooltip="Reward and held-out score over the run."),
                io.Image.Output("before_after", tooltip="Fixed pictures, untuned on the left, tuned on the right."),
                io.String.Output("file", tooltip="The saved LoRA, as Load LoRA lists it."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, prompts_file: Sequence[str], continue_from: Sequence[str], **_: Any) -> Any:
        """A changed file trains again."""
        prompts_path = prompt_sources.prompt_file_path(prompts_file[0])
        return [_stamp(path) for path in (prompts_path, lora_paths.lora_path(continue_from[0]))]

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

        reward, other = expect_reward_model(reward_model[0]), _optional_reward(held_out)
        config, dtype = config_of(widgets), network_dtype(widgets)
        path = lora_paths.free_path(widgets["file_name"][0])
        undesired = negative[0] if negative else None
        objects = (model[0], clip[0], vae[0], reward, other)
        values = (config, dtype, None if undesired is None else id(undesired), _stamp(config.lora_from))
        trained = _last.get(objects, values)
        if trained is None:
            job = Job(model[0], clip[0], vae[0], reward, other, undesired, config, dtype)
            trained = train(job, path)
            _last.put(objects, values, trained, keep=undesired)
        path = trained.write(path)
        tensors = tensors_of(trained.lora)
        tuned, _ = comfy.sd.load_lora_for_models(model[0], None, tensors, 1.0, 0.0)
        curve = reward_curve(trained)
        return io.NodeOutput(
            tuned,
            tensors,
            {"loss": [float(one["loss"]) for one in trained.records]},
            len(trained.records),
            to_image(curve),
            before_and_after(trained),
            lora_paths.shown_name(path),
            ui={**show(curve), "text": [summary(trained, lora_paths.shown_name(path))]},
        )


def summary(trained: Trained, file: str) -> str:
    first, kept = trained.evaluations[0], trained.kept
    strength = trained.record.recommended_strength
    advice = trained.reason if strength is None else f"recommended strength {strength:.1f} ({trained.reason})"
    return (
        f"{file}: {len(trained.records)} updates, kept that after {kept.update}; on fixed pictures "
        f"reward {first.mean_reward:+.4f} -> {kept.mean_reward:+.4f}, "
        f"held out {first.mean_held_out:+.4f} -> {kept.mean_held_out:+.4f}; "
        f"{advice}"
    )


def _optional_reward(given: Sequence[Any]) -> RewardModel | None:
    return expect_reward_model(given[0]) if given and given[0] is not None else None


def _stamp(path: str | None) -> tuple[float, int] | None:
    return (os.path.getmtime(path), os.path.getsize(path)) if path else None
