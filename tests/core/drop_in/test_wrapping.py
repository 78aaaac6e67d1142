"""A loaded model inside what other programs put around it: training, torch.compile, DDP, accelerate, a larger module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import drop_in_processes
import pytest
import sd_imagereward as RM
import torch
from drop_in_cases import PROMPTS, pictures, pixels
from sd_imagereward.core.drop_in.blip import BlipSizes
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def batch(model: RM.ImageReward) -> tuple[Tensor, Tensor, Tensor]:
    read = model.blip.tokenizer(list(PROMPTS), padding="max_length", max_length=35, return_tensors="pt")
    return read.input_ids, read.attention_mask, pixels()


def test_training_raises_the_reward(model: RM.ImageReward) -> None:
    given = batch(model)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    rewards = []
    for _ in range(3):
        loss = -model(*given).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(-loss.item())
    assert rewards[2] > rewards[1] > rewards[0]


def test_compiled(model: RM.ImageReward) -> None:
    given = batch(model)
    exact = model(*given)
    whole = hasattr(torch.compiler, "is_compiling")  # torch 2.1 to 2.2: attention cannot tell, and breaks the graph
    compiled = torch.compile(model, backend="eager", fullgraph=whole)
    torch.testing.assert_close(compiled(*given), exact)


def test_held_as_a_submodule(model: RM.ImageReward, golden: dict[str, Any]) -> None:
    """As a scorer class of a trainer holds it, which casts and freezes what it holds."""

    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.eval()
            self.model.requires_grad_(False)

        @torch.no_grad()
        def forward(self, prompts: list[str], images: list[Any]) -> list[float]:
            return [
                self.model.inference_rank(prompt, [image])[1] for prompt, image in zip(prompts, images, strict=True)
            ]

    held = Held()
    assert len(dict(held.named_parameters())) == len(dict(model.named_parameters()))
    assert not any(p.requires_grad for p in held.parameters())
    scores = held.to("cpu", dtype=torch.float64)(["a red cat"], pictures()[:1])
    assert scores == pytest.approx([golden["ImageReward"]["score"]], abs=2e-5)


NEVER_CALLED = {"blip", "blip.visual_encoder.blocks", "blip.text_encoder.encoder.layer"}  # they only hold others


@pytest.mark.parametrize("training", [False, True])
def test_hooks_see_every_module(model: RM.ImageReward, training: bool) -> None:
    seen = set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: seen.add(name))
    model.train(training)(*batch(model))
    unread = {"blip.vision_proj", "blip.text_proj"}
    assert dict(model.named_modules()).keys() - seen == NEVER_CALLED | unread


class Recomputed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *given: Any) -> Any:
        return checkpoint(self.inner, *given, use_reentrant=False)


def gradients(model: RM.ImageReward) -> list[Tensor]:
    torch.manual_seed(0)
    rewards = model(*batch(model)).sum()
    return list(torch.autograd.grad(rewards, [p for p in model.parameters() if p.requires_grad]))


@pytest.mark.parametrize("training", [False, True])
def test_layers_can_be_wrapped(model: RM.ImageReward, training: bool) -> None:
    """As fairscale, FSDP and adapters do."""
    model.train(training)
    expected = gradients(model)
    for layers in (model.blip.visual_encoder.blocks, model.blip.text_encoder.encoder.layer):
        for place, layer in enumerate(layers):
            layers[place] = Recomputed(layer)
    torch.testing.assert_close(gradients(model), expected)


def test_the_image_tower_recomputes_its_last_blocks(model: RM.ImageReward) -> None:
    expected, counted = gradients(model), []
    sizes = BlipSizes(
        model.blip.visual_encoder.sizes, model.blip.text_encoder.sizes, model.blip.vision_proj.out_features
    )
    blip = RM.BLIP_Pretrain(None, 224, "large", True, 1, sizes=sizes, queue_size=8, momentum=0.9)
    blip.load_state_dict(model.blip.state_dict())
    for unread in (blip.vision_proj, blip.text_proj):
        unread.requires_grad_(False)
    blip.tokenizer = model.blip.tokenizer
    model.blip = blip.eval()
    for block in blip.visual_encoder.blocks:
        block.register_forward_pre_hook(lambda block, *_: counted.append(block))
    torch.testing.assert_close(gradients(model), expected)
    blocks = list(blip.visual_encoder.blocks)
    assert counted == [*blocks, blocks[-1]]


def test_dropout_can_be_switched_off(model: RM.ImageReward) -> None:
    exact = model(*batch(model))
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.blip.visual_encoder.eval()
    torch.testing.assert_close(model(*batch(model)), exact)


def test_gradients_reach_an_image_through_a_frozen_model(model: RM.ImageReward) -> None:
    ids, mask, images = batch(model)
    model.requires_grad_(False)
    images.requires_grad_()
    torch.relu(2 - model.score_gard(ids, mask, images)).mean().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("wrapper", ["ddp", "accelerate"])
def test_two_processes_train_as_one(wrapper: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    if wrapper == "accelerate":
        pytest.importorskip("accelerate", reason='accelerate is not installed (pip install -e ".[train]")')
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [drop_in_processes.__file__, wrapper, str(tiny_checkpoint), str(tmp_path / "pair.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([*command, *script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    pair = torch.load(tmp_path / "pair.pt", weights_only=True)
    alone = drop_in_processes.train("none", str(tiny_checkpoint))
    assert pair["losses"][0] != pair["losses"][1]
    torch.testing.assert_close(pair["head"], alone["head"], atol=1e-5, rtol=1e-4)
