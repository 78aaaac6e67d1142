"""What the project is for, on networks that were trained on something: a change that breaks it turns these red."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sd_imagereward.core.refl.config import ReflConfig
from sd_imagereward.core.refl.loop import ReflTrainer
from sd_imagereward.core.refl.result import ReflResult
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.examples.miniature.world import SIDE, paint_caption, random_faults, truth

from .conftest import Kept

PICTURES = 160
SETTINGS = ReflConfig(
    width=SIDE,
    height=SIDE,
    sampler="ddim",
    denoising_steps=20,
    stop_window=(15, 19),
    lora_rank=16,
    batch_size=8,
    accumulation=1,
    learning_rate=1e-3,
    steps=30,
    evaluate_every=15,
    evaluation_images=32,
    evaluation_guidance=3.0,
    sweep=False,
    dtype="float32",
    device="cpu",
    gradient_checkpointing=False,
    tracker="none",
)


def test_the_reward_model_knows_better_pictures(kept: Kept) -> None:
    """On captions that it never saw, and far more often than a scorer that reads no caption."""
    rng = np.random.default_rng(0)
    texts = [kept.split.test[n % len(kept.split.test)] for n in range(PICTURES)]
    pairs = [[paint_caption(text, rng, random_faults(rng, 1.2)) for _ in range(2)] for text in texts]
    lead = np.array([truth(a, text) - truth(b, text) for (a, b), text in zip(pairs, texts, strict=True)])

    def accuracy(scorer: str) -> float:
        pixels = torch.from_numpy(np.array(pairs)).permute(1, 0, 4, 2, 3)
        first, second = (load_scorer(scorer).score(side.float() / 255, texts).numpy() for side in pixels)
        return float(((first - second) * lead > 0)[lead != 0].mean())

    trained = accuracy(str(kept.reward))
    assert trained > 0.8
    assert trained > accuracy("technical") + 0.15


def test_thirty_updates_raise_the_truth(kept: Kept) -> None:
    result = _tuned(kept, SETTINGS)
    before, after = (_truths(result, pictures) for pictures in (result.before, result.after))
    assert result.improved
    assert (after - before).mean() > 0


def test_the_guard_keeps_nothing_worse_than_the_untuned(kept: Kept) -> None:
    """Thirty times too hot: the weights go to pieces, and either none of them is recommended or the best are sound."""
    result = _tuned(kept, SETTINGS.but(learning_rate=3e-2, evaluate_every=10))
    before, after = (_truths(result, pictures) for pictures in (result.before, result.after))
    change = after - before
    assert not result.improved or change.mean() > -change.std(ddof=1) / len(change) ** 0.5


def _tuned(kept: Kept, config: ReflConfig) -> ReflResult:
    diffusers_generator = pytest.importorskip("sd_imagereward.core.refl.diffusers_generator")
    pytest.importorskip("diffusers")
    generator = diffusers_generator.DiffusersGenerator.load(str(kept.model), device="cpu")
    config = config.but(prompts=tuple(kept.split.train), evaluation_prompts=tuple(kept.split.valid))
    trainer = ReflTrainer(generator, load_scorer(str(kept.reward)), config, held_out=load_scorer(str(kept.clip)))
    return trainer.train()


def _truths(result: ReflResult, pictures: torch.Tensor | None) -> np.ndarray:
    assert pictures is not None
    images = pictures.permute(0, 2, 3, 1).numpy()  # NCHW -> NHWC
    return np.array([truth(pixels, text) for pixels, text in zip(images, result.prompts, strict=True)])
