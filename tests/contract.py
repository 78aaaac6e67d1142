"""What every scorer must do, whatever it computes: the checks that `core/scorers/test_contract.py` runs over each."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sd_imagereward.core import ImageRewardError, Scorer, score_images
from torch import Tensor

PROMPTS = ["a painting of an ocean with clouds", "a photo of a cat", ""]


def pictures() -> list[Image.Image]:
    """Three smooth random pictures: landscape, portrait, square."""
    generator = np.random.default_rng(20230412)
    sizes = ((320, 240), (150, 260), (224, 224))
    coarse = [generator.integers(0, 256, (9, 9, 3), dtype=np.uint8) for _ in sizes]
    return [Image.fromarray(c).resize(size, Image.Resampling.BICUBIC) for c, size in zip(coarse, sizes, strict=True)]


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # HWC -> CHW


def check_roads(scorer: Scorer, folder: Path) -> None:
    """A path, a PIL image, uint8 and float arrays and tensors of the same picture score the same."""
    for number, (image, prompt) in enumerate(zip(pictures(), PROMPTS, strict=True)):
        path = folder / f"{number}.png"
        image.save(path)
        pixels = as_tensor(image)
        roads = [
            path,
            image,
            np.array(image),
            np.array(image) / 255.0,
            pixels,
            pixels.float() / 255,
            pixels.double() / 255,
        ]
        scores = torch.cat([score_images(scorer, [road], prompt).total for road in roads])
        assert torch.isfinite(scores).all()
        assert (scores - scores[0]).abs().max() <= 1e-5 * scores[0].abs().clamp(min=1)


def check_batch(scorer: Scorer) -> None:
    """Together or one by one, in any order: the same scores; and they are not all one number."""
    images = pictures()
    together = score_images(scorer, images, PROMPTS).total
    alone = torch.cat(
        [score_images(scorer, [image], [prompt]).total for image, prompt in zip(images, PROMPTS, strict=True)]
    )
    backwards = score_images(scorer, images[::-1], PROMPTS[::-1]).total.flip(0)
    assert together.shape == (3,)
    assert together.dtype == torch.float32
    assert torch.allclose(together, alone, atol=2e-5, rtol=1e-5)
    assert torch.allclose(together, backwards, atol=2e-5, rtol=1e-5)
    assert together.std() > 1e-4


def check_prompt(scorer: Scorer) -> None:
    """A scorer reads the prompt if and only if it says so, and an overlong prompt is cut, not refused."""
    image = pictures()[0]
    scores = score_images(scorer, [image] * 3, [PROMPTS[0], PROMPTS[1], PROMPTS[0] + " and a castle" * 60]).total
    assert torch.isfinite(scores).all()
    assert bool((scores[0] - scores[1]).abs() > 1e-5) == scorer.info.reads_prompt


def check_empty(scorer: Scorer) -> None:
    assert scorer.score(torch.zeros(0, 3, 224, 224), []).shape == (0,)
    assert score_images(scorer, [], []).total.shape == (0,)


def check_wrong_input(scorer: Scorer) -> None:
    with pytest.raises(ValueError, match="shape"):
        scorer.prepare(torch.zeros(1, 224, 224, 3))
    if scorer.info.reads_prompt:
        with pytest.raises(ValueError, match="prompt"):
            scorer.score(torch.zeros(2, 3, 224, 224), ["one"])


def check_gradient(scorer: Scorer, tolerance: float = 0.05) -> None:
    """The gradient in the pixels is finite, and right along itself by central differences."""
    pixels = torch.stack([as_tensor(image.resize((240, 232))).float() / 255 for image in pictures()[:2]])
    pixels = 0.1 + 0.8 * pixels
    variable = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(scorer.score(variable, PROMPTS[:2]).sum(), variable)
    assert gradient.shape == pixels.shape
    assert torch.isfinite(gradient).all()
    assert gradient.abs().amax((1, 2, 3)).min() > 0
    # Along the gradient itself, where the change stands out from float32's rounding.
    direction = gradient / gradient.norm()
    expected = gradient.norm().item()
    step = 0.02 / expected  # a change of the score that is far above rounding and within the gradient's reach
    measured = (_smooth(scorer, pixels + step * direction) - _smooth(scorer, pixels - step * direction)) / (2 * step)
    assert measured == pytest.approx(expected, rel=tolerance)


def _smooth(scorer: Scorer, pixels: Tensor) -> float:
    """The sum of scores on the road that gradients take, without rounding to 8 bits."""
    return scorer.score(pixels.requires_grad_(), PROMPTS[:2]).detach().double().sum().item()


def skip_without_half_on_the_cpu(dtype: str) -> None:
    """torch 2.1 has no float16 matrix product on the CPU; hosts with it use float16 on a GPU alone."""
    if dtype == "fp16" and tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 2):
        pytest.skip("this torch has no float16 matrix product on the CPU")


def check_half(scorer: Scorer, half: Scorer) -> None:
    """Half precision stays near single."""
    images = pictures()
    exact, rounded = score_images(scorer, images, PROMPTS).total, score_images(half, images, PROMPTS).total
    tolerance = 0.02 if half.dtype == torch.float16 else 0.05  # bfloat16 has three bits less, and kernels differ
    assert (exact - rounded).abs().max() < tolerance * max(1.0, exact.abs().max().item())


def check_unload(scorer: Scorer) -> None:
    """Every parameter is freed, later use is refused, and doing it again harms nothing."""
    references = [weakref.ref(parameter) for parameter in scorer.network.parameters()]
    before = scorer.memory()
    assert before > 0
    scorer.unload()
    scorer.unload()
    gc.collect()
    assert [reference for reference in references if reference() is not None] == []
    assert scorer.memory() == 0
    with pytest.raises(ImageRewardError, match="was unloaded"):
        scorer.score(torch.zeros(1, 3, 224, 224), [""])
