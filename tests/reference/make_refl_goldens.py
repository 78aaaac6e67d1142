"""Makes tests/goldens/refl.json: what two updates of the reference's three ReFL trainers do to a tiny pipeline.

    python tests/reference/make_refl_goldens.py CHECKOUT_OF_THUDM_IMAGEREWARD

in the environment that package.py describes, with diffusers and accelerate. The statements of the update are taken out of
`ReFL.py`, `ReFL_SDXL.py` and `ReFL_SDXL_LoRA.py` by `ast` and executed as they are, with the `image-reward` package's own
`score_gard`; only what surrounds them is ours: an accelerator of one process, and a trainer that holds the tiny networks.
"""

from __future__ import annotations

import ast
import functools
import json
import random
import re
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from reference.package import declare_torchvision_operators, load_reference, versions  # noqa: E402

declare_torchvision_operators()
import diffusers  # noqa: E402
import pipelines  # noqa: E402
from checkpoints import write_imagereward  # noqa: E402
from torchvision import transforms  # noqa: E402

PROMPTS = ["a red cat", "a castle"]
SEED, SIDE = 7, 256
FILES = {"sd1": ["ReFL.py"], "sdxl": ["ReFL_SDXL.py", "ReFL_SDXL_LoRA.py"]}


class SmallerTorch:
    """torch, but for the reference's latents of 64 x 64, which it fixes: a quarter of them takes seconds, not minutes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def randn(shape: tuple[int, ...], **options: Any) -> torch.Tensor:
        return torch.randn((*shape[:2], SIDE // 8, SIDE // 8), **options)


def functions_of(source: Path) -> dict[str, Callable[..., Any]]:
    """`_reward_loss(self, args, batch)`: all from the noise to the optimizer's step; and SDXL's `_compute_time_ids`."""
    trainer = next(each for each in ast.parse(source.read_text()).body if isinstance(each, ast.ClassDef))
    methods = {each.name: each for each in trainer.body if isinstance(each, ast.FunctionDef)}
    if "_reward_loss" not in methods:  # SD1's update stands in the middle of its loop
        blocks = (each for each in ast.walk(methods["train"]) if isinstance(each, ast.With))
        block = next(each for each in blocks if "self.accelerator.accumulate" in ast.unparse(each.items[0]))
        shell = ast.parse("def _reward_loss(self, args, batch, train_loss=0.0):\n    return loss").body[0]
        assert isinstance(shell, ast.FunctionDef)
        shell.body[:0] = block.body
        methods["_reward_loss"] = shell
    taken: list[ast.stmt] = [methods[name] for name in ("_reward_loss", "_compute_time_ids") if name in methods]
    names: dict[str, Any] = {
        "torch": SmallerTorch(),
        "F": F,
        "random": random,
        "transforms": transforms,
        "BICUBIC": transforms.InterpolationMode.BICUBIC,
        **{name: getattr(transforms, name) for name in ("Compose", "Resize", "CenterCrop", "Normalize")},
    }
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / source.name
        code = ast.unparse(ast.Module(taken, type_ignores=[]))
        module.write_text(f"from __future__ import annotations\n{code}", encoding="utf-8")
        made = runpy.run_path(str(module), init_globals=names)
    return {each.name: made[each.name] for each in taken if isinstance(each, ast.FunctionDef)}


class OneProcess:
    """What the statements ask of accelerate; keeps the gradients as they come to be clipped."""

    device, sync_gradients = torch.device("cpu"), True
    gradients: dict[str, torch.Tensor]

    def __init__(self, unet: torch.nn.Module) -> None:
        self.unet = unet

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def clip_grad_norm_(self, parameters: Any, norm: float) -> None:
        self.gradients = {name: p.grad.clone() for name, p in self.unet.named_parameters() if p.grad is not None}
        torch.nn.utils.clip_grad_norm_(parameters, norm)


def two_updates(source: Path, kind: str, folder: Path) -> dict[str, Any]:
    pipeline = pipelines.fill(pipelines.pipeline(kind, folder / "parts"))
    pipeline.unet.requires_grad_(True).train()
    rewards: list[torch.Tensor] = []
    model = load_reference(write_imagereward(folder / "reward")).eval().requires_grad_(False)
    score = model.score_gard
    model.score_gard = lambda *given: rewards.append(score(*given)) or rewards[-1]
    read = model.blip.tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    batch = {"rm_input_ids": read.input_ids, "rm_attention_mask": read.attention_mask}
    if kind == "sdxl":
        with torch.no_grad():
            embeddings, _, pooled, _ = pipeline.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=False)
        batch |= {"prompt_embeds": embeddings, "pooled_prompt_embeds": pooled}
        batch |= {"original_sizes": [(SIDE, SIDE)] * len(PROMPTS), "crop_top_lefts": [(0, 0)] * len(PROMPTS)}
    else:
        tokens = pipeline.tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        batch["input_ids"] = tokens.input_ids
    scheduler = diffusers.DDPMScheduler.from_config(
        pipeline.scheduler.config, clip_sample=False
    )  # as the published models have it
    scheduler.set_timesteps(40)
    accelerator = OneProcess(pipeline.unet)
    optimizer = torch.optim.AdamW(pipeline.unet.parameters(), lr=1e-5, weight_decay=1e-2)
    trainer = SimpleNamespace(
        unet=pipeline.unet, vae=pipeline.vae, text_encoder=pipeline.text_encoder, noise_scheduler=scheduler,
        reward_model=model, weight_dtype=torch.float32, accelerator=accelerator, optimizer=optimizer,
        lr_scheduler=SimpleNamespace(step=lambda: None),
    )  # fmt: skip
    functions = functions_of(source)
    for name, function in functions.items():
        setattr(trainer, name, functools.partial(function, trainer))
    args = SimpleNamespace(
        train_batch_size=len(PROMPTS),
        grad_scale=1e-3,
        max_grad_norm=1.0,
        gradient_accumulation_steps=1,
        resolution=SIDE,
    )
    torch.manual_seed(SEED)
    random.seed(SEED)
    loss = trainer._reward_loss(args, batch)
    gradients = {name: digest(gradient) for name, gradient in accelerator.gradients.items()}
    second = trainer._reward_loss(args, batch)
    return {
        "loss": loss.item(),
        "rewards": rewards[0].flatten().tolist(),
        "second_loss": second.item(),
        "second_rewards": rewards[1].flatten().tolist(),
        "gradients": gradients,
    }


def digest(gradient: torch.Tensor) -> list[float]:
    """Norm, and the product with a fixed cosine: a sum in which every entry counts by its place."""
    flat = gradient.double().flatten()
    wave = torch.cos(torch.arange(len(flat), dtype=torch.float64))
    return [float(f"{value:.7g}") for value in (flat.norm().item(), (flat @ wave).item())]


def compact(made: dict[str, Any]) -> str:
    """JSON with the numbers of one tensor on one line."""
    return re.sub(r"\[\s+(-?[\d.e-]+),\s+(-?[\d.e-]+)\s+\]", r"[\1, \2]", json.dumps(made, indent=1)) + "\n"


def main(checkout: Path) -> None:
    made: dict[str, Any] = {
        "source": "THUDM/ImageReward, made by make_refl_goldens.py",
        "versions": versions() | {"diffusers": diffusers.__version__},
    }
    random.seed(SEED)
    made |= {"prompts": PROMPTS, "seed": SEED, "side": SIDE, "stop": random.randint(30, 39)}
    made["second_stop"] = random.randint(30, 39)
    for kind, files in FILES.items():
        with tempfile.TemporaryDirectory() as name:
            results = [two_updates(checkout / "ImageReward" / file, kind, Path(name)) for file in files]
        if any(result != results[0] for result in results):
            raise RuntimeError(f"{' and '.join(files)} do not give the same update")
        made[kind] = {"of": files} | results[0]
    (TESTS / "goldens" / "refl.json").write_text(compact(made))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
