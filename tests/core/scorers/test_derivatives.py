"""Every kind of derivative of a score is right: backwards, forwards, by transforms of torch.func, and twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import scorer_checkpoints as write
import torch
from checkpoints import write_imagereward
from sd_imagereward.core import Scorer, load_scorer
from sd_imagereward.core.networks.attention import attention
from torch import Tensor
from torch.autograd import forward_ad

PROMPTS = ["a red castle"]
MAKERS = {
    "imagereward": write_imagereward,
    "blip": write.write_blip,
    "clip": write.write_clip,
    "pickscore": lambda folder: write.write_clip(folder, name="PickScore_v1.safetensors", **write.TINY_H),
    "hpsv2.1": lambda folder: write.write_clip(
        folder, name="HPS_v2.1_compressed.pt", layout="open_clip", wrap="state_dict", **write.TINY_H
    ),
    "aesthetic": lambda folder: (write.write_clip(folder), write.write_aesthetic(folder))[1],
}


@pytest.fixture(params=list(MAKERS))
def scorer(request: pytest.FixtureRequest, tmp_path: Path) -> Scorer:
    return load_scorer(MAKERS[request.param](tmp_path), device="cpu", dtype="fp32", shared=False)


@pytest.fixture
def pixels() -> Tensor:
    return 0.1 + 0.8 * torch.rand(1, 3, 240, 232, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def direction() -> Tensor:
    return torch.randn(1, 3, 240, 232, generator=torch.Generator().manual_seed(2))


def slope(scorer: Scorer, pixels: Tensor, direction: Tensor) -> Tensor:
    """The derivative along a direction by the way backwards."""
    variable = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(scorer.score(variable, PROMPTS).sum(), variable)
    return (gradient * direction).sum()


def test_forwards_is_backwards(scorer: Scorer, pixels: Tensor, direction: Tensor) -> None:
    with torch.no_grad():
        scorer.score(pixels, PROMPTS)  # so that its features are kept
    expected = slope(scorer, pixels, direction)
    assert expected.abs() > 1e-6

    def score(pixels: Tensor) -> Tensor:
        return scorer.score(pixels, PROMPTS).sum()

    _, by_jvp = torch.func.jvp(score, (pixels,), (direction,))
    by_grad = (torch.func.grad(score)(pixels) * direction).sum()
    with torch.no_grad(), forward_ad.dual_level():
        by_dual = forward_ad.unpack_dual(score(forward_ad.make_dual(pixels, direction))).tangent
    _, by_functional = torch.autograd.functional.jvp(score, pixels, direction)
    for found in (by_jvp, by_grad, by_dual, by_functional):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-7)


def test_vmap_is_a_loop(scorer: Scorer, pixels: Tensor) -> None:
    batch = torch.cat([pixels, pixels.flip(-1)])
    each = torch.func.vmap(lambda one: scorer.score(one[None], PROMPTS)[0])(batch)
    smooth = torch.cat([scorer.score(one[None].clone().requires_grad_(), PROMPTS) for one in batch])
    assert torch.allclose(each, smooth, atol=1e-5)


def test_twice_backwards(scorer: Scorer, pixels: Tensor, direction: Tensor) -> None:
    variable = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(scorer.score(variable, PROMPTS).sum(), variable, create_graph=True)
    (second,) = torch.autograd.grad((gradient * direction).sum(), variable)
    step = 0.02 / direction.norm()
    gradients = []
    for sign in (1, -1):
        moved = (pixels + sign * step * direction).requires_grad_()
        gradients += torch.autograd.grad(scorer.score(moved, PROMPTS).sum(), moved)
    measured = ((gradients[0] - gradients[1]) * direction).sum() / (2 * step)
    assert (second * direction).sum().item() == pytest.approx(measured.item(), rel=0.05)


@pytest.mark.parametrize("how", ["plain", "masked", "causal"])
def test_attention_is_the_fused_kernels(how: str) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3))
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])[:, None, None] if how == "masked" else None

    def ours(*qkv: Tensor) -> Tensor:
        return attention(*qkv, mask, causal=how == "causal")

    def fused(*qkv: Tensor) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(*qkv, attn_mask=mask, is_causal=how == "causal")

    gradients = [torch.autograd.grad(f(q, k, v).sin().sum(), (q, k, v)) for f in (ours, fused)]
    assert all(torch.allclose(one, other) for one, other in zip(*gradients, strict=True))
    assert torch.autograd.gradgradcheck(ours, (q, k, v))
    tangent = torch.func.jvp(ours, (q, k, v), (k, v, q))[1]
    assert torch.allclose(tangent, torch.autograd.functional.jvp(ours, (q, k, v), (k, v, q))[1])
