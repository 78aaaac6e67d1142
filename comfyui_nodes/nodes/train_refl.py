from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ...core.refl.config import LAYER_CHOICES, ReflConfig
from ...core.refl.lora_files import tensors_of
from ..captions import show
from ..host_version import fit, node_schema
from ..hosting import RewardModel, expect_reward_model
from ..pictures import to_image
from ..refl import lora_paths, samplers
from ..refl import prompts as prompt_sources
from ..refl.memo import Memo
from ..refl.pictures import before_and_after, reward_curve
from ..types import LoraModelType, LossMapType, RewardModelType

if TYPE_CHECKING:
    from ..refl.training import Trained

DTYPES = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

_last: Memo[Trained] = Memo()


class TrainReflLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "SDImageRewardTrainReFL",
            "ImageReward Train ReFL LoRA",
            description="Trains a LoRA whose pictures the reward model likes better: it draws from your prompts, judges, "
            "and follows the gradient of the score back into the model (reward feedback learning). No pictures are needed.",
            search_aliases=["refl", "train lora", "reward feedback learning", "rlhf", "draft"],
            is_input_list=True,
            is_output_node=True,
            inputs=[*_sources(), *_usual(), *_rare()],
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
        config = config_of(widgets)
        path = lora_paths.free_path(widgets["file_name"][0])
        undesired = negative[0] if negative else None
        objects = (model[0], clip[0], vae[0], reward, other)
        values = (config, widgets["dtype"][0], None if undesired is None else id(undesired), _stamp(config.lora_from))
        trained = _last.get(objects, values)
        if trained is None:
            job = Job(model[0], clip[0], vae[0], reward, other, undesired, config, DTYPES[widgets["dtype"][0]])
            trained = train(job, path)
            _last.put(objects, values, trained, keep=undesired)
        trained.write(path)
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


def config_of(widgets: dict[str, Any]) -> ReflConfig:
    """The widgets (each a list of one, prompts of any number) as the settings of a run, checked."""
    first = {name: values[0] for name, values in widgets.items()}
    config = ReflConfig(
        prompts=prompt_sources.gather(widgets["prompts"], first["prompts_file"]),
        reward="reward",
        held_out="held out",
        lora_from=lora_paths.lora_path(first["continue_from"]),
        lora_rank=first["rank"],
        lora_alpha=first["alpha"] or None,
        lora_layers=first["layers"],
        width=first["resolution"],
        height=first["resolution"],
        sampler=_or_auto(first["sampler"]),
        scheduler=_or_auto(first["scheduler"]),
        denoising_steps=first["denoising_steps"],
        stop_window=(first["stop_first"], min(first["stop_last"], first["denoising_steps"] - 1)),
        gradient_steps=first["gradient_steps"],
        guidance=first["cfg"],
        steps=first["steps"],
        batch_size=first["batch_size"],
        accumulation=first["accumulation"],
        learning_rate=first["learning_rate"],
        threshold=first["threshold"],
        scale=first["scale"],
        prior_weight=first["prior_weight"],
        gradient_checkpointing=first["gradient_checkpointing"],
        seed=first["seed"] % 2**63,
        evaluate_every=first["evaluate_every"],
        evaluation_images=first["evaluation_images"],
        checkpoint_every=0,
        tracker="none",
    )
    config.check()
    return config


def summary(trained: Trained, file: str) -> str:
    first, kept = trained.evaluations[0], trained.kept
    strength = trained.record.recommended_strength
    return (
        f"{file}: {len(trained.records)} updates, kept that after {kept.update}; on fixed pictures "
        f"reward {first.mean_reward:+.4f} -> {kept.mean_reward:+.4f}, "
        f"held out {first.mean_held_out:+.4f} -> {kept.mean_held_out:+.4f}; "
        f"recommended strength {strength:.1f} ({trained.reason})"
    )


def _or_auto(choice: str) -> str:
    return "" if choice == samplers.AUTO else choice


def _optional_reward(given: Sequence[Any]) -> RewardModel | None:
    return expect_reward_model(given[0]) if given and given[0] is not None else None


def _stamp(path: str | None) -> tuple[float, int] | None:
    return (os.path.getmtime(path), os.path.getsize(path)) if path else None


def _sources() -> list[io.Input]:
    return [
        io.Model.Input(
            "model",
            tooltip="The model to train on: SD1.x, SD2.x or SDXL; SD3 and Flux.1 are experimental. It stays as it is; LoRAs "
            "applied to it stay applied.",
        ),
        io.Clip.Input("clip", tooltip="Encodes each prompt once and is then released."),
        io.Vae.Input("vae", tooltip="Decodes the pictures that are judged."),
        RewardModelType.Input(
            "reward_model", tooltip="What the pictures are to please; from 'ImageReward Load Reward Model'."
        ),
        RewardModelType.Input(
            "held_out",
            optional=True,
            tooltip="A second opinion that training never sees. The run stops "
            "when it falls while the reward rises, and keeps the best LoRA before. Left open: the technical scorer.",
        ),
        io.Conditioning.Input(
            "negative", optional=True, tooltip="What guidance leads away from; read when cfg is not 1."
        ),
        io.String.Input(
            "prompts",
            multiline=True,
            default="",
            tooltip="Prompts to draw from, one a line; or connect a list of texts.",
        ),
        io.Combo.Input(
            "prompts_file",
            options=prompt_sources.prompt_files(),
            default=prompt_sources.NO_FILE,
            tooltip="More prompts, from a file in ComfyUI's input folder: .txt (one a line), .csv, .json or .jsonl "
            "(column text, prompt or caption).",
        ),
    ]


def _usual() -> list[io.Input]:
    return [
        io.Int.Input(
            "steps",
            default=100,
            min=1,
            max=100000,
            tooltip="Updates of the LoRA. Each draws batch_size x accumulation pictures.",
        ),
        io.Float.Input(
            "learning_rate",
            default=1e-4,
            min=1e-7,
            max=1.0,
            step=1e-7,
            tooltip="How far an update goes. Lower it if the pictures break, raise it if nothing moves.",
        ),
        io.Int.Input(
            "rank",
            default=8,
            min=1,
            max=128,
            tooltip="Rank of the LoRA: how much it can change, and how big its file is.",
        ),
        io.Int.Input(
            "resolution",
            default=512,
            min=64,
            max=2048,
            step=64,
            tooltip="Side of the pictures: 512 for SD1.x, 768 for "
            "SD2.x, 1024 for SDXL, SD3 and Flux. The first thing to lower when memory is short.",
        ),
        io.Int.Input(
            "batch_size",
            default=1,
            min=1,
            max=64,
            tooltip="Pictures at a time. More need more memory; accumulation does not.",
        ),
        io.Int.Input("accumulation", default=8, min=1, max=1024, tooltip="Batches for each update."),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=1.0,
            max=30.0,
            step=0.1,
            tooltip="Guidance in training. 1 is none, as in the paper, and costs half.",
        ),
        io.Int.Input(
            "evaluate_every",
            default=20,
            min=1,
            max=100000,
            tooltip="Updates between two looks at the fixed pictures, judged by the reward and the second opinion.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**64 - 1,
            control_after_generate=True,
            tooltip="Seed of noises, prompts' order and the LoRA's start.",
        ),
        io.String.Input(
            "file_name",
            default="ImageReward/refl",
            tooltip="The LoRA's name in models/loras (a / makes a folder). An older "
            "file is never overwritten. Changing the name alone does not train again.",
        ),
        io.Combo.Input(
            "continue_from",
            options=lora_paths.lora_files(),
            default=lora_paths.NONE,
            tooltip="A LoRA to go on from; rank, alpha and layers are then its own.",
        ),
    ]


def _rare() -> list[io.Input]:
    return [
        _rarely(
            io.Int.Input, "alpha", default=0, min=0, max=128, tooltip="Alpha of the LoRA; 0 is the same as the rank."
        ),
        _rarely(
            io.Combo.Input,
            "layers",
            options=list(LAYER_CHOICES),
            default="attention",
            tooltip="Which layers the LoRA changes: the attention's, or every linear layer of the transformer blocks.",
        ),
        _rarely(
            io.Combo.Input,
            "sampler",
            options=[samplers.AUTO, *samplers.sampler_names()],
            default=samplers.AUTO,
            tooltip="How pictures are drawn in training. auto: ddpm, the paper's; for SD3 and Flux euler.",
        ),
        _rarely(
            io.Combo.Input,
            "scheduler",
            options=[samplers.AUTO, *samplers.scheduler_names()],
            default=samplers.AUTO,
            tooltip="Spacing of the noise levels. auto: ddim_uniform, the paper's; for SD3 and Flux simple.",
        ),
        _rarely(
            io.Int.Input,
            "denoising_steps",
            default=40,
            min=1,
            max=1000,
            tooltip="Steps from noise to picture. 40 in the paper; fewer are faster.",
        ),
        _rarely(
            io.Int.Input,
            "stop_first",
            default=30,
            min=0,
            max=999,
            tooltip="The picture is predicted at a step drawn between this one and stop_last (the first step is 0).",
        ),
        _rarely(
            io.Int.Input,
            "stop_last",
            default=39,
            min=0,
            max=999,
            tooltip="The last step at which the picture is predicted; at most denoising_steps - 1.",
        ),
        _rarely(
            io.Int.Input,
            "gradient_steps",
            default=1,
            min=1,
            max=50,
            tooltip="K: how many of the last steps carry gradient. 1 is ReFL, more is DRaFT-K and needs K times the memory.",
        ),
        _rarely(
            io.Float.Input,
            "threshold",
            default=2.0,
            min=-100.0,
            max=100.0,
            step=0.01,
            tooltip="A picture with a higher score pulls no more. "
            "2 suits ImageReward; other scorers have other ranges.",
        ),
        _rarely(
            io.Float.Input,
            "scale",
            default=1e-3,
            min=1e-8,
            max=100.0,
            step=1e-8,
            tooltip="Factor of the reward in the loss.",
        ),
        _rarely(
            io.Float.Input,
            "prior_weight",
            default=0.0,
            min=0.0,
            max=1000.0,
            step=1e-6,
            tooltip="Weight of staying close to the "
            "untuned model; above 0 holds back artefacts and costs one more pass.",
        ),
        _rarely(
            io.Combo.Input,
            "dtype",
            options=list(DTYPES),
            default="auto",
            tooltip="What the network computes in; the LoRA itself is always fp32. auto: as it was loaded.",
        ),
        _rarely(
            io.Boolean.Input,
            "gradient_checkpointing",
            default=True,
            tooltip="Recompute activations in place of keeping them: much less memory, a third slower.",
        ),
        _rarely(
            io.Int.Input,
            "evaluation_images",
            default=4,
            min=1,
            max=64,
            tooltip="How many fixed pictures are judged and shown before and after.",
        ),
    ]


def _rarely(make: Any, name: str, **keywords: Any) -> Any:
    return fit(make, name, advanced=True, **keywords)
