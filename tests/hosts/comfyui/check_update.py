"""Run by a Python that has ComfyUI's packages and diffusers: one ReFL update of a tiny SD1 in both adapters.

python check_update.py COMFYUI FOLDER

Prints {"missing": ..} without diffusers, else the losses and how far the gradients of the LoRA are apart. The networks hold
equal weights, the prompt is encoded once, and both draw the same numbers. ComfyUI begins ddim_uniform below its highest noise
level and so scales the first noise by sigma in place of sqrt(1 + sigma^2), 0.3% less; that is made up for here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from entering import enter_host, mount, tiny_models

STEPS, STOP = 10, 7


def same_networks(folder: Path) -> tuple[Any, Any, Any]:
    """(diffusers pipeline, ComfyUI's MODEL, its VAE)."""
    import pipelines
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from sd_imagereward.core.refl.single_file import unet_tensors, vae_tensors

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=32,
    )
    vae = AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        sample_size=64,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
    )
    pipeline = StableDiffusionPipeline(
        unet=unet.eval(),
        vae=vae.eval(),
        text_encoder=pipelines._text_encoder(32, projected=False),
        tokenizer=pipelines.tokenizer(folder),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    models = tiny_models()
    model, host_vae = models.make_model(0), models.make_vae(0)
    with torch.inference_mode():
        model.model.diffusion_model.load_state_dict(unet_tensors(unet.state_dict(), 1), strict=True)
        host_vae.first_stage_model.load_state_dict(vae_tensors(vae.state_dict()), strict=True)
    return pipeline, model, host_vae


def one_update(generator: Any, noise: Any, sampling: Any) -> tuple[float, dict[str, Any]]:
    """(loss, gradient of each LoRA parameter)."""
    import torch
    from sd_imagereward.core.refl import ReflConfig
    from sd_imagereward.core.refl.tuning import LoraTuning
    from sd_imagereward.core.refl.update import rollout
    from toy_generator import ColourScorer

    config = ReflConfig(prompts=("a cat",), lora_rank=2, gradient_steps=1, scale=1.0, dtype="float32")
    tuning = LoraTuning.of(generator, config)
    draws = torch.Generator().manual_seed(3)
    parameters = dict(tuning.parameters())
    for name in sorted(parameters):
        parameters[name].data = torch.randn(parameters[name].shape, generator=draws) * 0.05
    result = rollout(
        generator, ColourScorer(0), tuning, config, sampling, ["a cat"], noise, STOP, lambda loss: loss.backward()
    )
    return result.reward_loss.item(), {name: parameter.grad.clone() for name, parameter in parameters.items()}


def main(folder: Path) -> None:
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    import torch
    from sd_imagereward.comfyui_nodes.refl.generator import ComfyGenerator
    from sd_imagereward.comfyui_nodes.refl.memory import training_mode
    from sd_imagereward.core.refl import DiffusersGenerator, Sampling
    from sd_imagereward.core.refl.diffusers_generator import Conditioning
    from sd_imagereward.core.refl.randomness import SampleNoise

    class FullStart(SampleNoise):
        """The first draw as large as at the highest noise level."""

        sigma = 0.0

        def normal(self, shape: Any) -> Any:
            drawn, sigma = super().normal(shape), self.sigma
            self.sigma = 0.0
            return drawn * (1 + sigma**2) ** 0.5 / sigma if sigma else drawn

    pipeline, model, vae = same_networks(folder)
    sampling = Sampling(width=64, height=64, steps=STEPS, sampler="ddpm")
    theirs = DiffusersGenerator(pipeline, device="cpu")
    with training_mode():
        host = ComfyGenerator(model, tiny_models().make_clip(1), vae)
        noise = FullStart([torch.Generator().manual_seed(5)])
        noise.sigma = host.denoise(
            ["a cat"], sampling, SampleNoise.of_seeds([0]), lambda denoiser: float(denoiser.sigmas[0])
        )
        loss, gradients = one_update(host, noise, sampling)
        encoded = host.prompts.batch(["a cat"])[0][0].clone()
    theirs._embeddings["a cat"] = Conditioning(encoded, None)
    expected, wanted = one_update(theirs, SampleNoise.of_seeds([5]), sampling)
    apart = torch.cat([(gradients[name] - wanted[name]).flatten() for name in wanted]).norm()
    whole = torch.cat([gradient.flatten() for gradient in wanted.values()]).norm()
    same = sorted(gradients) == sorted(wanted)
    print(json.dumps({"losses": [loss, expected], "apart": (apart / whole).item(), "norm": whole.item(), "same": same}))


if __name__ == "__main__":
    comfyui, place = sys.argv[1:]
    enter_host(comfyui)
    mount()
    main(Path(place))
