"""The widgets of 'Train ReFL LoRA', and their values as the settings of a run."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ...core.refl.config import LAYER_CHOICES, ReflConfig
from ...core.refl.families import FAMILIES, FLOW_TITLES, guidances_in_words, in_words, resolutions_in_words
from ..refl import lora_paths, samplers
from ..refl import prompts as prompt_sources
from ..types import RewardModelType

DTYPES = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def inputs() -> list[io.Input]:
    """What is connected, what most people set, and what is marked advanced."""
    return [*_sources(), *_usual(), *_rare()]


def config_of(widgets: dict[str, Any]) -> ReflConfig:
    """The widgets (each a list of one, prompts of any number) as the settings of a run."""
    first = {name: values[0] for name, values in widgets.items()}
    return ReflConfig(
        prompts=prompt_sources.gather(widgets["prompts"], first["prompts_file"]),
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
        evaluation_guidance=first["evaluation_cfg"] or None,
        sweep=first["sweep"],
        checkpoint_every=0,
        tracker="none",
    )


def network_dtype(widgets: dict[str, Any]) -> torch.dtype | None:
    """What the network is to compute in; None leaves it to ComfyUI."""
    return DTYPES[widgets["dtype"][0]]


def _or_auto(choice: str) -> str:
    return "" if choice == samplers.AUTO else choice


def _sources() -> list[io.Input]:
    return [
        io.Model.Input(
            "model",
            tooltip=f"The model to train on: {_titles(experimental=False)}; {_titles(experimental=True, last='and')} are "
            "experimental. It stays as it is; LoRAs applied to it stay applied.",
        ),
        io.Clip.Input("clip", tooltip="Encodes each prompt once and is then released."),
        io.Vae.Input("vae", tooltip="Decodes the pictures that are scored."),
        RewardModelType.Input(
            "reward_model",
            tooltip="Scores the pictures: training raises this score. From 'ImageReward Load Reward Model'.",
        ),
        RewardModelType.Input(
            "held_out",
            optional=True,
            tooltip="A scorer that training never sees, or a list of several of different kinds. The run stops when the score "
            "of one falls while the reward rises, and keeps the best LoRA before that. Not connected: the technical scorer, "
            "unless that is in the reward.",
        ),
        io.Conditioning.Input(
            "negative",
            optional=True,
            tooltip="What guidance leads away from; read where cfg or evaluation_cfg is not 1.",
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
    """With `prompts` and `prompts_file` the ten widgets that the node shows; the page keeps the others folded."""
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
            tooltip=f"Side of the pictures: {resolutions_in_words()}. The first thing to lower when memory is short.",
        ),
        io.Int.Input(
            "batch_size",
            default=1,
            min=1,
            max=64,
            tooltip="Pictures at a time. More need more memory; accumulation does not.",
        ),
        io.Int.Input("accumulation", default=8, min=1, max=1024, tooltip="Batches for each update."),
        _rarely(
            io.Float.Input,
            "cfg",
            default=1.0,
            min=1.0,
            max=30.0,
            step=0.1,
            tooltip="Guidance in training. 1 is none, as in the paper, and costs half.",
        ),
        _rarely(
            io.Int.Input,
            "evaluate_every",
            default=20,
            min=1,
            max=100000,
            tooltip="Updates between two evaluations: the fixed pictures are drawn and scored by reward and held-out scorers.",
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
        _rarely(
            io.Combo.Input,
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
            tooltip=f"How pictures are drawn in training. auto: ddpm, the paper's; euler for {FLOW_TITLES}.",
        ),
        _rarely(
            io.Combo.Input,
            "scheduler",
            options=[samplers.AUTO, *samplers.scheduler_names()],
            default=samplers.AUTO,
            tooltip=f"Spacing of the noise levels. auto: ddim_uniform, the paper's; simple for {FLOW_TITLES}.",
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
            tooltip="A picture that scores higher contributes no loss. 2 suits ImageReward; other scorers have other ranges.",
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
            tooltip="How many fixed pictures are scored, and shown before and after.",
        ),
        _rarely(
            io.Float.Input,
            "evaluation_cfg",
            default=0.0,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="Guidance of the fixed pictures: the cfg that you will draw with. "
            f"0: what is usual for the model ({guidances_in_words()}).",
        ),
        _rarely(
            io.Boolean.Input,
            "sweep",
            default=True,
            tooltip="At the end draw the fixed pictures with the LoRA at strengths 0.3, 0.4, ... 1.0 and recommend one. Costs "
            "7 x evaluation_images pictures.",
        ),
    ]


def _titles(*, experimental: bool, last: str = "or") -> str:
    return in_words((row for row in FAMILIES.values() if row.comfyui and row.experimental == experimental), last)


def _rarely(make: Any, name: str, **keywords: Any) -> Any:
    return make(name, advanced=True, **keywords)
