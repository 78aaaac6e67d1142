"""Features that were kept are those that would be computed now, whatever happened to weights and precision meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import scorer_checkpoints
import torch
from checkpoints import write_imagereward
from sd_imagereward.core import Scorer, load_scorer
from sd_imagereward.core.scorers.cache import FeatureCache
from torch import Tensor, nn

PROMPTS = ["a red castle", "a photo of a cat"]
PIXELS = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[write_imagereward, scorer_checkpoints.write_blip, scorer_checkpoints.write_clip])
def scorer(request: pytest.FixtureRequest, tmp_path: Path) -> Scorer:
    return load_scorer(request.param(tmp_path), device="cpu", dtype="fp32", shared=False)


def scores(scorer: Scorer) -> Tensor:
    with torch.no_grad():
        return scorer.score(PIXELS, PROMPTS)


def fresh(scorer: Scorer) -> Tensor:
    scorer.forget_features()
    return scores(scorer)


def weights(scorer: Scorer) -> list[nn.Parameter]:
    return list(scorer.tower.network.parameters())


def optimizer_step(scorer: Scorer) -> None:
    scorer.network.requires_grad_(True)
    optimizer = torch.optim.Adam(scorer.network.parameters(), lr=0.01)
    scorer.score(PIXELS, PROMPTS).sum().backward()
    scores(scorer)  # keeps features of the weights before the step
    optimizer.step()


def in_place(scorer: Scorer) -> None:
    with torch.no_grad():
        weights(scorer)[-1][..., -1] += 3.0


def through_data(scorer: Scorer) -> None:
    for weight in weights(scorer):
        weight.data.mul_(1.5)


def through_data_but_for_the_first_rows(scorer: Scorer) -> None:
    for weight in weights(scorer):
        if weight.ndim == 2:
            weight.data[len(weight) // 2 :] += 1.0


def by_state_dict(scorer: Scorer) -> None:
    scorer.network.load_state_dict({name: 1.5 * t for name, t in scorer.network.state_dict().items()})


def by_assigned_state_dict(scorer: Scorer) -> None:
    changed = {name: 1.5 * t for name, t in scorer.network.state_dict().items()}
    scorer.network.load_state_dict(changed, assign=True)


def by_casting(scorer: Scorer) -> None:
    scorer.network.to(torch.bfloat16)


def there_and_back(scorer: Scorer) -> None:
    """Memory that is freed comes back under the same address."""
    scorer.network.to(torch.bfloat16).to(torch.float32)


@pytest.mark.parametrize(
    "change",
    [
        optimizer_step,
        in_place,
        through_data,
        through_data_but_for_the_first_rows,
        by_state_dict,
        by_assigned_state_dict,
        by_casting,
        there_and_back,
    ],
)
def test_no_feature_outlives_its_weights(scorer: Scorer, change: Callable[[Scorer], None]) -> None:
    before = scores(scorer)
    change(scorer)
    after = scores(scorer)
    assert not torch.equal(after, before)
    assert torch.equal(after, fresh(scorer))


def test_features_of_autocast_serve_autocast_alone(scorer: Scorer) -> None:
    exact = scores(scorer)
    scorer.forget_features()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = scores(scorer)
    assert not torch.equal(rounded, exact)
    assert torch.equal(scores(scorer), exact)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scores(scorer), rounded)


def test_what_inference_mode_kept_can_be_trained_on(tmp_path: Path) -> None:
    scorer = load_scorer(write_imagereward(tmp_path), device="cpu", dtype="fp32", shared=False)
    with torch.inference_mode():
        scorer.score(PIXELS, PROMPTS)
    scorer.network.text_encoder.requires_grad_(True)
    scorer.score(PIXELS, PROMPTS).sum().backward()
    assert any(weight.grad is not None for weight in scorer.network.text_encoder.parameters())


def test_pictures_that_differ_in_any_bit_are_two(scorer: Scorer) -> None:
    nearly = PIXELS.clone()
    nearly[:, 0, 0, 0] += 1e-6
    with torch.no_grad():
        scorer.tower.features(PIXELS)
        scorer.tower.features(nearly)
    assert len(scorer.tower.cache) == 4


def test_a_picture_that_came_with_a_known_one_is_known_from_then_on() -> None:
    cache, pictures = FeatureCache(), PIXELS[..., :8, :8].contiguous()
    computed: list[int] = []

    def mean(pixels: Tensor) -> Tensor:
        computed.append(len(pixels))
        return pixels.mean((1, 2, 3))

    for batch in (pictures[:1], pictures, pictures[1:]):
        torch.testing.assert_close(cache.features(batch, mean, "mean"), batch.mean((1, 2, 3)))
    assert computed == [1, 1]
