"""Seconds per ReFL update and peak memory: ours, and the reference trainer's loop, on the same modules in one go.

    python benchmarks/refl.py                                         # tiny networks on the CPU, a minute
    python benchmarks/refl.py --size half --updates 2                 # SD1.5 of half the width at 256 pixels, minutes
    python benchmarks/refl.py --size sd15 sdxl --device cuda          # real sizes with random weights, LoRA of rank 8, bf16

Weights are random, so nothing is downloaded; text embeddings are random too (prompts are encoded once, before training).
Needs diffusers; the reference's loop also needs peft, whose LoRA it trains (left out with a note when peft is not there).
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from checkout import mount
from torch import Tensor, nn
from torch.nn import functional as F

mount()

import checkpoints  # noqa: E402 (found through the path set above)
from sd_imagereward.core.refl import DiffusersGenerator, Observer, ReflConfig, ReflTrainer  # noqa: E402
from sd_imagereward.core.scorers.loading import load_scorer  # noqa: E402

STOP = 35  # of the steps 30..39 the middle, for both, so that they do equal work
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"resolution": 64, "tokens": 16, "pooled": 0, "goal": None},
    "half": {"resolution": 256, "tokens": 768, "pooled": 0, "goal": None},
    "sd15": {"resolution": 512, "tokens": 768, "pooled": 0, "goal": 10.0},
    "sdxl": {"resolution": 1024, "tokens": 2048, "pooled": 1280, "goal": 24.0},
}


@dataclass
class Result:
    seconds: list[float]
    share: float
    """Of an update's time, what the U-Net's own forward passes take."""
    peak: float
    """GiB: on CUDA what the allocator reached, on the CPU the process's resident set."""

    def line(self, who: str) -> str:
        seconds = statistics.median(self.seconds)
        return (
            f"  {who:<10} {seconds:8.3f} s/update   peak {self.peak:6.2f} GiB   U-Net forward {100 * self.share:5.1f}%"
        )


class RandomPipeline:
    """The parts of a Stable Diffusion pipeline that training touches, at real size, with random weights."""

    def __init__(self, size: str, device: torch.device, dtype: torch.dtype) -> None:
        from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel

        torch.manual_seed(0)
        with _defaults(device, dtype):
            self.unet = UNet2DConditionModel(**_unet_config(size))
            self.vae = AutoencoderKL(**_vae_config(size))
        self.text_encoder, self.tokenizer = nn.Linear(1, 1), object()
        self.scheduler = EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        )
        self.config = SimpleNamespace(force_zeros_for_empty_prompt=True)
        self.sizes, self.device, self.dtype = SIZES[size], device, dtype

    def encode_prompt(self, prompt: str, **_: Any) -> tuple[Tensor, ...]:
        embeddings = torch.randn(1, 77, self.sizes["tokens"], device=self.device, dtype=self.dtype)
        pooled = torch.randn(1, self.sizes["pooled"], device=self.device, dtype=self.dtype)
        return embeddings, embeddings, pooled, pooled


def _unet_config(size: str) -> dict[str, Any]:
    if size == "tiny":
        return {
            "sample_size": 8,
            "block_out_channels": (16, 32, 32, 32),
            "cross_attention_dim": 16,
            "norm_num_groups": 8,
            "attention_head_dim": 8,
        }
    if size == "half":
        return {
            "sample_size": 32,
            "block_out_channels": (160, 320, 640, 640),
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        }
    if size == "sd15":
        return {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
    return {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }


def _vae_config(size: str) -> dict[str, Any]:
    widths = {"tiny": (8, 8, 8, 8), "half": (64, 128, 256, 256)}.get(size, (128, 256, 512, 512))
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "norm_num_groups": 8 if size == "tiny" else 32,
        "sample_size": SIZES[size]["resolution"],
        "scaling_factor": 0.13025 if size == "sdxl" else 0.18215,
    }


@contextmanager
def _defaults(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Modules are made where and as they will be used: no second copy, no slow start on the CPU."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


class ForwardClock:
    """Adds up the time of a module's forward passes."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.device, self.spans, self.open = device, [], []  # type: ignore[var-annotated]
        self.hooks = [
            module.register_forward_pre_hook(lambda *_: self.open.append(self._mark())),
            module.register_forward_hook(lambda *_: self.spans.append((self.open.pop(), self._mark()))),
        ]

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> float:
        if self.device.type != "cuda":
            return sum(stop - start for start, stop in self.spans)
        torch.cuda.synchronize()
        return sum(start.elapsed_time(stop) for start, stop in self.spans) / 1000

    def reset(self) -> None:
        self.spans.clear()


def measure(unet: nn.Module, device: torch.device, updates: Callable[[Callable[[], None]], None]) -> Result:
    """Run `updates`, which calls back after each update; the first one warms up and is not counted."""
    clock, seconds = ForwardClock(unet, device), []
    forward, began = 0.0, time.perf_counter()

    def done() -> None:
        nonlocal began, forward
        if device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        seconds.append(now - began)
        forward += clock.seconds() if len(seconds) > 1 else 0.0
        clock.reset()
        began = time.perf_counter()

    updates(done)
    for hook in clock.hooks:
        hook.remove()
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Result(seconds[1:], forward / sum(seconds[1:]), peak)


def ours(pipeline: Any, scorer: Any, config: ReflConfig, device: torch.device, dtype: torch.dtype) -> Result:
    class Tell(Observer):
        def __init__(self, done: Callable[[], None]) -> None:
            self.done = done

        def on_update(self, record: Any, pixels: Tensor) -> None:
            self.done()

    def updates(done: Callable[[], None]) -> None:
        generator = DiffusersGenerator(pipeline, dtype=dtype, device=device)
        trainer = ReflTrainer(generator, scorer, config, observers=[Tell(done)])
        trainer.train()
        trainer.tuning.detach()

    return measure(pipeline.unet, device, updates)


def reference(
    pipeline: Any, scorer: Any, config: ReflConfig, device: torch.device, dtype: torch.dtype
) -> Result | None:
    """What ImageReward's SDXL LoRA trainer does per update, in plain diffusers and peft calls, latents of the true size."""
    try:
        from peft import LoraConfig
    except ImportError:
        return None
    from diffusers import DDPMScheduler

    unet, vae = pipeline.unet, pipeline.vae
    unet.add_adapter(LoraConfig(r=config.lora_rank, lora_alpha=config.lora_rank, init_lora_weights="gaussian",
                                target_modules=["to_k", "to_q", "to_v", "to_out.0"]))  # fmt: skip
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    unet.enable_gradient_checkpointing()
    unet.train()
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    side = pipeline.sizes["resolution"]
    embeddings, _, pooled, _ = pipeline.encode_prompt("")
    extra = {
        "text_embeds": pooled,
        "time_ids": torch.tensor([[side, side, 0, 0, side, side]], device=device, dtype=dtype),
    }
    condition: dict[str, Any] = {"encoder_hidden_states": embeddings, "added_cond_kwargs": extra}

    def predict(latents: Tensor, step: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            return unet(latents.to(dtype), step, **condition).sample.float()

    def updates(done: Callable[[], None]) -> None:
        for _ in range(config.steps):
            latents = torch.randn((1, 4, side // 8, side // 8), device=device)
            scheduler.set_timesteps(40, device=device)
            with torch.no_grad():
                for step in scheduler.timesteps[:STOP]:
                    latents = scheduler.step(predict(latents, step), step, latents).prev_sample
            step = scheduler.timesteps[STOP]
            x0 = scheduler.step(predict(latents, step), step, latents).pred_original_sample.to(dtype)
            image = (vae.decode(x0 / vae.config.scaling_factor).sample.float() / 2 + 0.5).clamp(0, 1)
            reward = scorer.score(image, ["a prompt"])
            (config.scale * F.relu(config.threshold - reward).mean()).backward()
            nn.utils.clip_grad_norm_(trained, config.clip)
            optimizer.step()
            optimizer.zero_grad()
            done()

    return measure(unet, device, updates)


def run(size: str, args: argparse.Namespace) -> None:
    device = torch.device(args.device)
    print(f"{size}: {SIZES[size]['resolution']} pixels square, LoRA rank 8, batch 1, {args.dtype}, {_name(device)}")
    results: dict[str, Result] = {}
    for who in ROADS:
        # A process each: a peak of resident memory never comes down again.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
            result = apart.submit(take, who, size, args).result()
        if result is None:
            print(f"  {who:<10} not run: it needs peft (pip install peft)")
        else:
            results[who] = result
            print(result.line(who), flush=True)
    _conclude(results, SIZES[size]["goal"], device)


def take(who: str, size: str, args: argparse.Namespace) -> Result | None:
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    config = ReflConfig(
        prompts=("a prompt",), steps=args.updates + 1, batch_size=1, accumulation=1, lora_rank=8, guard=False,
        dtype=args.dtype, stop_window=(STOP, STOP), gradient_checkpointing=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        sizes = {} if size == "tiny" else checkpoints.REAL_SIZE
        path = checkpoints.write_imagereward(folder, format="safetensors", **sizes)
        scorer = load_scorer(path, device=device, dtype=torch.float32)
        return ROADS[who](RandomPipeline(size, device, dtype), scorer, config, device, dtype)


ROADS: dict[str, Callable[..., Result | None]] = {"ours": ours, "reference": reference}


def _conclude(results: dict[str, Result], goal: float | None, device: torch.device) -> None:
    if len(results) == 2:
        a, b = results["ours"], results["reference"]
        ratio = statistics.median(b.seconds) / statistics.median(a.seconds)
        print(f"  reference / ours: {ratio:.2f} of the time, {b.peak / a.peak:.2f} of the peak memory")
    if goal is not None and device.type == "cuda":
        peak = results["ours"].peak
        print(f"  goal: within {goal:.0f} GiB: {'met' if peak <= goal else 'MISSED'} ({peak:.2f})")


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=list(SIZES), default=["tiny"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--dtype", default=None, choices=["float32", "bfloat16", "float16"], help="default: bfloat16 on CUDA"
    )
    parser.add_argument("--updates", type=int, default=5, help="updates that count; one more warms up")
    args = parser.parse_args()
    args.dtype = args.dtype or ("bfloat16" if torch.device(args.device).type == "cuda" else "float32")
    for size in args.size:
        run(size, args)


if __name__ == "__main__":
    main()
