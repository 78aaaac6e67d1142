from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io

from ...core.pages.charts import line_chart
from ...core.refl.families import COMFYUI_TITLES, FLOW_TITLES
from ...core.refl.generator import Sampling
from ...core.refl.reno import Settings
from ..captions import show
from ..host_version import Schema
from ..hosting import expect_reward_model
from ..pictures import to_image
from ..refl import prompts as prompt_sources
from ..refl import samplers
from ..types import RewardModelType


class OptimiseNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardOptimiseNoise",
            display_name="ImageReward Optimise Noise (ReNO)",
            description="Improves the noise that a picture begins with by the gradient of a reward; the model stays as it "
            "is. For one-step and few-step models (turbo, lightning).",
            search_aliases=["reno", "noise optimization", "reward-based noise"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip=f"A one-step or few-step model: {COMFYUI_TITLES}."),
                io.Clip.Input("clip", tooltip="Encodes the prompt once and is then released."),
                io.Vae.Input("vae", tooltip="Decodes the pictures that are scored."),
                RewardModelType.Input(
                    "reward_model", tooltip="Scores the picture: the noise is changed to raise this score."
                ),
                io.Latent.Input("latent", tooltip="Gives size and number of the pictures; what is in it is not read."),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="What guidance leads away from; read when cfg is not 1."
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="What to draw: one text, or a list with one per latent.",
                ),
                io.Int.Input(
                    "iterations", default=50, min=1, max=1000, tooltip="Changes of the noise; 50 in the paper."
                ),
                io.Int.Input("steps", default=1, min=1, max=8, tooltip="Denoising steps. Each adds to the memory."),
                io.Float.Input(
                    "cfg", default=1.0, min=1.0, max=30.0, step=0.1, tooltip="Guidance, as in your sampler; 1 is none."
                ),
                io.Combo.Input(
                    "sampler",
                    options=samplers.sampler_names(),
                    default="euler",
                    tooltip="As in the sampler that draws the picture afterwards.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=samplers.scheduler_names(),
                    default="simple",
                    tooltip="As in the sampler that draws the picture afterwards.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip="Seed of the noise that is improved.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=5.0,
                    min=1e-4,
                    max=1000.0,
                    step=0.01,
                    tooltip="How far an iteration goes; 5 in the paper.",
                    advanced=True,
                ),
                io.Float.Input(
                    "regularisation",
                    default=0.01,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    tooltip="Weight of keeping the noise as strong as normal noise; 0.01 in the paper.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "start",
                    tooltip="The improved start. Give it to KSampler (Advanced) with add_noise off, at the same steps, "
                    f"sampler, scheduler and cfg. Empty for {FLOW_TITLES}, which need the noise itself.",
                ),
                io.Image.Output("curve", tooltip="The reward over the iterations."),
                io.Image.Output("images", tooltip="The pictures drawn from the improved start."),
                io.Float.Output("best", tooltip="The highest reward that was reached."),
                io.Noise.Output(
                    "noise", tooltip="The improved noise, for SamplerCustomAdvanced; 'start' goes to its latent_image."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: list[Any],
        clip: list[Any],
        vae: list[Any],
        reward_model: list[Any],
        latent: list[Any],
        prompt: list[str],
        negative: Sequence[Any] = (),
        **widgets: Any,
    ) -> io.NodeOutput:
        from ..refl.noise import Task, optimise

        first = {name: values[0] for name, values in widgets.items()}
        samples = latent[0]["samples"]
        scale = int(getattr(vae[0], "downscale_ratio", 8))
        sampling = Sampling(
            width=samples.shape[-1] * scale,
            height=samples.shape[-2] * scale,
            steps=first["steps"],
            sampler=first["sampler"],
            scheduler=first["scheduler"],
            guidance=first["cfg"],
        )
        task = Task(
            model[0],
            clip[0],
            vae[0],
            expect_reward_model(reward_model[0]),
            negative[0] if negative else None,
            prompt_sources.expect_texts(prompt),
            samples,
            sampling,
            first["seed"],
        )
        settings = Settings(
            iterations=first["iterations"],
            learning_rate=first["learning_rate"],
            regularisation=first["regularisation"],
        )
        start, noise, found = optimise(task, settings)
        lines = {f"picture {n}": list(enumerate(row.tolist())) for n, row in enumerate(found.rewards.T)}
        curve = line_chart(task.reward.scorer.info.title, lines, across="iterations").image()
        images = found.pixels.permute(0, 2, 3, 1).contiguous()  # BCHW -> BHWC
        best = float(torch.nan_to_num(found.rewards, -torch.inf).max())
        return io.NodeOutput({"samples": start}, to_image(curve), images, best, noise, ui=show(curve))
