"""The diffusers adapter on tiny pipelines: the reference's update to the digit, gradients, rising reward, LoRA files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.refl import DiffusersGenerator, ReflConfig, ReflTrainer, Sampling
from sd_imagereward.core.refl.diffusers_generator import _pipeline_of_file
from sd_imagereward.core.refl.lora import Lora
from sd_imagereward.core.refl.randomness import Draws, MicroBatch, SampleNoise
from sd_imagereward.core.refl.tuning import FullTuning, LoraTuning
from sd_imagereward.core.refl.update import rollout
from sd_imagereward.core.scorers.base import Scorer
from sd_imagereward.core.scorers.loading import load_scorer
from torch import Tensor
from torch.nn import functional as F
from toy_generator import ColourScorer

pytest.importorskip("diffusers", reason='diffusers is not installed (pip install -e ".[refl]")')
pytest.importorskip("transformers", reason='transformers is not installed (pip install -e ".[refl]")')

KINDS = ("sd1", "sd2", "sdxl")
TINY = ReflConfig(
    prompts=("a cat", "a dog"),
    denoising_steps=6,
    stop_window=(4, 5),
    learning_rate=1e-3,
    batch_size=2,
    accumulation=1,
    dtype="float32",
    guard=False,
    tracker="none",
    gradient_checkpointing=False,
)


def sampling(generator: DiffusersGenerator, **changes: Any) -> Sampling:
    side = generator.native_resolution
    return Sampling(**{"width": side, "height": side, "steps": 6, **changes})


@pytest.fixture
def scorer(tiny_checkpoint: Path) -> Scorer:
    loaded = load_scorer(tiny_checkpoint, device="cpu")
    loaded.network.requires_grad_(False)
    return loaded


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_recognised(kind: str, make_pipeline: Callable[..., Any]) -> None:
    generator = DiffusersGenerator(make_pipeline(kind), device="cpu")
    assert generator.family.name == kind
    assert generator.v_prediction is (kind == "sd2")
    assert not any(parameter.requires_grad for parameter in generator.network.parameters())


def reference_update(pipeline: Any, scorer: Scorer, prompts: list[str], stop: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and U-Net gradient of ImageReward's ReFL.py / ReFL_SDXL.py for one batch, in plain diffusers calls."""
    from diffusers import DDPMScheduler

    unet, vae, sdxl = pipeline.unet, pipeline.vae, hasattr(pipeline, "text_encoder_2")
    unet.requires_grad_(True)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(6)
    encoded = pipeline.encode_prompt(prompts, "cpu", 1, False) if not sdxl else pipeline.encode_prompt(
        prompts, device="cpu", do_classifier_free_guidance=False
    )  # fmt: skip
    latents = torch.randn((len(prompts), 4, unet.config.sample_size, unet.config.sample_size))
    side = unet.config.sample_size * 8
    ids = torch.tensor([[side, side, 0, 0, side, side]] * len(prompts)).float()
    extra = {"text_embeds": encoded[2], "time_ids": ids} if sdxl else None

    def predict(latents: Tensor, step: Tensor) -> Tensor:
        return unet(latents, step, encoder_hidden_states=encoded[0], added_cond_kwargs=extra).sample

    with torch.no_grad():
        for step in scheduler.timesteps[:stop]:
            latents = scheduler.step(predict(latents, step), step, latents).prev_sample
    step = scheduler.timesteps[stop]
    x0 = scheduler.step(predict(latents, step), step, latents).pred_original_sample
    image = (vae.decode(x0 / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    resized = F.interpolate(image, size=(224, 224), mode="bicubic", antialias=True)
    rewards = scorer.score(resized, prompts)
    loss = F.relu(2 - rewards).mean() * 1e-3
    loss.backward()
    gradients = {
        name: parameter.grad.clone() for name, parameter in unet.named_parameters() if parameter.grad is not None
    }
    unet.zero_grad()
    unet.requires_grad_(False)
    return loss.detach(), gradients


@pytest.mark.parametrize("kind", KINDS)
def test_one_update_equals_the_references(kind: str, make_pipeline: Callable[..., Any], scorer: Scorer) -> None:
    pipeline, prompts = make_pipeline(kind), ["a cat"]
    torch.manual_seed(7)
    loss, gradients = reference_update(pipeline, scorer, prompts, stop=4)

    generator = DiffusersGenerator(pipeline, device="cpu")
    tuning = FullTuning(generator)
    torch.manual_seed(7)
    noise = SampleNoise([torch.default_generator])
    result = rollout(
        generator, scorer, tuning, TINY, sampling(generator), prompts, noise, 4, lambda each: each.backward()
    )

    torch.testing.assert_close(result.reward_loss, loss, rtol=1e-5, atol=0)
    assert len(gradients) > 100
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, parameter in generator.network.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-4 * largest)


@pytest.mark.parametrize(("kind", "gradient_steps"), [("sd1", 1), ("sdxl", 2)])
def test_the_gradient_of_a_lora_matches_finite_differences(
    kind: str, gradient_steps: int, make_pipeline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Along a random direction, with guidance; in float64, where the difference holds six digits on every machine."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # the adapter's own "float32 from here on"
    generator = DiffusersGenerator(make_pipeline(kind), device="cpu", dtype=torch.float64)
    config = TINY.but(lora_rank=2, gradient_steps=gradient_steps, guidance=3.0, scale=1.0)
    shape = sampling(generator, guidance=3.0)
    tuning, scorer, stop = LoraTuning.of(generator, config), ColourScorer(0), 4
    parameters = list(tuning.parameters().values())
    random = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.data = torch.randn(parameter.shape, generator=random, dtype=torch.float64) * 0.05
    direction = [torch.randn(each.shape, generator=random, dtype=torch.float64) for each in parameters]

    def loss_shifted_by(step: float) -> float:
        """As `rollout` has it: the steps before the last K are drawn with the parameters as they were."""

        @torch.no_grad()
        def body(denoiser: Any) -> float:
            first = stop - (gradient_steps - 1)
            latents = denoiser.advance(denoiser.start(), 0, first)
            for parameter, way in zip(parameters, direction, strict=True):
                parameter.add_(way, alpha=step)
            reward = scorer.score(generator.decode(denoiser.x0(denoiser.advance(latents, first, stop), stop)), [""])
            for parameter, way in zip(parameters, direction, strict=True):
                parameter.sub_(way, alpha=step)
            return (config.scale * F.relu(config.threshold - reward).mean()).item()

        return generator.denoise(["a cat"], shape, SampleNoise.of_seeds([3]), body)

    losses: list[Tensor] = []
    rollout(generator, scorer, tuning, config, shape, ["a cat"], SampleNoise.of_seeds([3]), stop, losses.append)
    gradients = torch.autograd.grad(losses[0], parameters)
    predicted = sum((gradient * way).sum().item() for gradient, way in zip(gradients, direction, strict=True))
    step = 1e-4
    assert predicted == pytest.approx((loss_shifted_by(step) - loss_shifted_by(-step)) / (2 * step), rel=1e-3)
    assert abs(predicted) > 1e-8  # far above what rounding can make of nothing


@pytest.mark.parametrize(("kind", "tune"), [("sd1", "lora"), ("sd1", "full"), ("sdxl", "lora")])
def test_the_reward_of_a_real_checkpoint_rises_on_fixed_noise(
    kind: str, tune: str, make_pipeline: Callable[..., Any], scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Draws, "micro_batch", lambda self, *position: MicroBatch(prompts=(0,), seeds=(5,), stop=1))
    config = TINY.but(
        prompts=("a cat",),
        tune=tune,
        steps=20,
        batch_size=1,
        denoising_steps=2,
        stop_window=(1, 1),
        learning_rate=2e-2 if tune == "lora" else 3e-4,
    )
    generator = DiffusersGenerator(make_pipeline(kind), device="cpu")
    rewards = [record["reward"] for record in ReflTrainer(generator, scorer, config).train().records]
    assert sum(rewards[-5:]) / 5 > rewards[0] + 1e-3


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_lora_file_draws_the_same_through_diffusers_own_loader(
    kind: str, make_pipeline: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("peft", reason="diffusers loads LoRA files through peft")
    generator = DiffusersGenerator(make_pipeline(kind), device="cpu")
    config = TINY.but(output=str(tmp_path / "run"), steps=1, learning_rate=0.5, lora_layers="linear", lora_alpha=2.0)
    pytest.importorskip("yaml")
    trainer = ReflTrainer(generator, ColourScorer(0), config)
    trainer.train()
    generator.gradient_checkpointing(False)
    torch.manual_seed(1)
    side = generator.network.config.sample_size
    latents, steps = torch.randn(1, 4, side, side), torch.tensor([500])
    conditioning = generator.conditioning(["a cat"])
    ids = generator.time_ids([(64, 64, 0, 0)], (64, 64)) if kind == "sdxl" else None
    with torch.no_grad():
        tuned = generator.predict(latents, steps, conditioning, ids)
        trainer.tuning.detach()
        untuned = generator.predict(latents, steps, conditioning, ids)
        generator.pipeline.load_lora_weights(str(tmp_path / "run"), weight_name="run.safetensors")
        loaded = generator.predict(latents, steps, conditioning, ids)
    assert (tuned - untuned).abs().max() > 1e-3
    torch.testing.assert_close(loaded, tuned, rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(make_pipeline: Callable[..., Any]) -> None:
    found = []
    for on in (False, True):
        generator = DiffusersGenerator(make_pipeline("sd1"), device="cpu")
        tuning = LoraTuning.of(generator, TINY)
        generator.gradient_checkpointing(on)
        noise = SampleNoise.of_seeds([3])
        rollout(
            generator,
            ColourScorer(0),
            tuning,
            TINY,
            sampling(generator),
            ["a cat"],
            noise,
            4,
            lambda loss: loss.backward(),
        )
        found.append([p.grad.clone() for p in tuning.parameters().values()])
    largest = max(gradient.abs().max().item() for gradient in found[0])
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-4, atol=1e-5 * largest)


def test_sdxl_reads_the_size_it_draws(make_pipeline: Callable[..., Any]) -> None:
    generator, seen = DiffusersGenerator(make_pipeline("sdxl"), device="cpu"), []
    generator.network.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args[0].shape, kwargs["added_cond_kwargs"]["time_ids"])),
        with_kwargs=True,
    )
    noise = SampleNoise.of_seeds([1])
    shape = sampling(generator, width=96, height=64)
    generator.denoise(["a cat"], shape, noise, lambda denoiser: denoiser.x0(denoiser.start(), 0))
    assert tuple(seen[0][0]) == (1, 4, 8, 12)
    assert seen[0][1].tolist() == [[64, 96, 0, 0, 64, 96]]


def test_full_tuning_leaves_a_folder_that_the_pipeline_loads(make_pipeline: Callable[..., Any], tmp_path: Path) -> None:
    generator = DiffusersGenerator(make_pipeline("sd1"), device="cpu")
    generator.network.conv_out.bias.data += 1
    generator.save(tmp_path / "pipeline")
    again = DiffusersGenerator.load(str(tmp_path / "pipeline"), device="cpu")
    assert torch.equal(again.network.conv_out.bias, generator.network.conv_out.bias)


def test_full_tuning_in_another_type_leaves_the_untuned_parts_as_they_were(
    make_pipeline: Callable[..., Any], tmp_path: Path
) -> None:
    before = make_pipeline("sd1")
    before.save_pretrained(str(tmp_path / "before"))
    generator = DiffusersGenerator.load(str(tmp_path / "before"), dtype=torch.bfloat16, device="cpu")
    generator.network.float().conv_out.bias.data += 1
    generator.save(tmp_path / "after")
    after = DiffusersGenerator.load(str(tmp_path / "after"), device="cpu").pipeline
    assert torch.equal(after.unet.conv_out.bias, generator.network.conv_out.bias)
    for part in ("vae", "text_encoder"):
        parameters = dict(getattr(after, part).named_parameters())
        for name, parameter in getattr(before, part).named_parameters():
            assert torch.equal(parameters[name], parameter), name


def test_a_prompt_is_encoded_once_and_without_an_empty_one_beside_it(make_pipeline: Callable[..., Any]) -> None:
    generator, seen = DiffusersGenerator(make_pipeline("sd1"), device="cpu"), []
    generator.pipeline.text_encoder.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    for _ in range(2):
        generator.precompute_embeddings(["a cat", "a dog"])
    assert seen == [1, 1]


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_guidance_goes_on_from_the_negative_prompt_through_the_prompt(
    kind: str, make_pipeline: Callable[..., Any]
) -> None:
    generator = DiffusersGenerator(make_pipeline(kind), device="cpu")

    def first_x0(prompt: str, **changes: Any) -> Tensor:
        noise = SampleNoise.of_seeds([3])
        shape = sampling(generator, **changes)
        return generator.denoise([prompt], shape, noise, lambda denoiser: denoiser.x0(denoiser.start(), 0))

    with torch.no_grad():
        negative, positive = first_x0("a dog"), first_x0("a cat")
        guided = first_x0("a cat", guidance=3.0, negative_prompt="a dog")
    assert not torch.allclose(negative, positive)
    torch.testing.assert_close(guided, negative + 3 * (positive - negative), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.float32, torch.float32)],
)
def test_the_decoder_never_computes_in_float16(
    dtype: torch.dtype, expected: torch.dtype, make_pipeline: Callable[..., Any]
) -> None:
    generator = DiffusersGenerator(make_pipeline("sd1"), dtype=dtype, device="cpu")
    assert generator.network.dtype == dtype
    assert generator.vae.dtype == generator.vae_dtype == expected


def test_encoding_draws_from_what_the_vae_makes_of_pixels_around_zero(make_pipeline: Callable[..., Any]) -> None:
    generator = DiffusersGenerator(make_pipeline("sd1"), device="cpu")
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        spread = generator.vae.encode(2 * pixels - 1).latent_dist
        noise = torch.randn(spread.mean.shape[1:], generator=torch.Generator().manual_seed(5))
        expected = (spread.mean + spread.std * noise) * generator.vae.config.scaling_factor
        torch.testing.assert_close(generator.encode(pixels, SampleNoise.of_seeds([5])), expected)


def test_encoders_come_to_the_device_and_leave_it_again(
    make_pipeline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = DiffusersGenerator(make_pipeline("sdxl"), device="cpu")
    moves: list[str] = []
    for place, encoder in enumerate(generator.encoders):
        monkeypatch.setattr(encoder, "to", lambda device, place=place: moves.append(f"{place} {device}"))
    generator.precompute_embeddings(["a cat"])
    assert moves == ["0 cpu", "1 cpu"] * 2


def test_pictures_lie_between_black_and_white(make_pipeline: Callable[..., Any]) -> None:
    generator = DiffusersGenerator(make_pipeline("sd1"), device="cpu")
    generator.vae.decoder.conv_out.weight.data *= 1000
    with torch.no_grad():
        pixels = generator.decode(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert (pixels.min().item(), pixels.max().item()) == (0, 1)


def test_pretraining_loss_trains_on_captioned_images(make_pipeline: Callable[..., Any], pictures: list[Path]) -> None:
    rows = "\n".join(f"{path.name},a picture" for path in pictures)
    table = pictures[0].parent / "captions.csv"
    table.write_text(f"image,text\n{rows}\n")
    for kind in ("sd2", "sdxl"):
        generator = DiffusersGenerator(make_pipeline(kind), device="cpu")
        config = TINY.but(
            denoising_steps=2, stop_window=(1, 1), batch_size=1, pretraining_data=str(table), steps=1, snr_gamma=5.0
        )
        record = ReflTrainer(generator, ColourScorer(0), config).train().records[0]
        assert record["pretraining_loss"] > 0.01
        assert record["loss"] == pytest.approx(record["reward_loss"] + record["pretraining_loss"], rel=1e-5)


def test_a_pipeline_without_its_parts_is_refused(make_pipeline: Callable[..., Any]) -> None:
    pipeline = make_pipeline("sd1")
    pipeline.vae = None
    with pytest.raises(ImageRewardError, match="has no vae"):
        DiffusersGenerator(pipeline, device="cpu")


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageRewardError, match="neither"):
        DiffusersGenerator.load(str(tmp_path / "nothing" / "here" / "at" / "all"))


def test_a_single_file_without_its_configuration_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import StableDiffusionPipeline

    def unreachable(path: str) -> None:
        raise OSError("no route to the Hub")

    monkeypatch.setattr(StableDiffusionPipeline, "from_single_file", unreachable)
    path = tmp_path / "model.safetensors"
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, path)
    with pytest.raises(
        ImageRewardError, match=r"no route to the Hub\)\. Connect .* or give the model as a diffusers folder"
    ):
        DiffusersGenerator.load(str(path), device="cpu")
    path.write_bytes(b"half a download")
    with pytest.raises(ImageRewardError, match=r"model\.safetensors is not a whole safetensors file"):
        DiffusersGenerator.load(str(path), device="cpu")


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_folder_loads_without_a_word(
    kind: str, make_pipeline: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers complains of a safety checker that is left out where there is none, and where it is not left out."""
    from diffusers.pipelines import pipeline_utils

    warnings: list[str] = []
    monkeypatch.setattr(pipeline_utils.logger, "warning", lambda text, *_: warnings.append(text))
    make_pipeline(kind).save_pretrained(tmp_path / "model")
    assert DiffusersGenerator.load(str(tmp_path / "model"), device="cpu").family.name == kind
    assert warnings == []


def test_lora_layers_choices(make_pipeline: Callable[..., Any]) -> None:
    layers = DiffusersGenerator(make_pipeline("sd1"), device="cpu").layers()
    attention, linear = (set(Lora.on(layers, rank=2, which=which).names) for which in ("attention", "linear"))
    assert len(attention) == 16 * 8  # 16 transformer blocks, two attentions of four layers each
    assert attention < linear
    assert all("ff.net" in name or "proj" in name for name in linear - attention)


@pytest.mark.parametrize(
    ("keys", "pipeline"),
    [
        (["cond_stage_model.transformer.text_model.x"], "StableDiffusionPipeline"),
        (["cond_stage_model.model.ln_final.weight"], "StableDiffusionPipeline"),
        (
            ["conditioner.embedders.0.transformer.text_model.x", "conditioner.embedders.1.model.ln_final.weight"],
            "StableDiffusionXLPipeline",
        ),
        ([], "StableDiffusionPipeline"),
    ],
)
def test_single_files_are_told_apart_by_their_keys(keys: list[str], pipeline: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4), **{key: torch.zeros(1) for key in keys}}, path)
    assert _pipeline_of_file(path) == pipeline
    save_file({"lora_unet_x.alpha": torch.zeros(1)}, path)
    with pytest.raises(ImageRewardError, match="not a Stable Diffusion checkpoint"):
        _pipeline_of_file(path)
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    with pytest.raises(ImageRewardError, match=r"must be \.safetensors"):
        DiffusersGenerator.load(str(tmp_path / "model.ckpt"))
