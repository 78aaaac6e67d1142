"""One update of ours against the reference's own lines, run by tests/reference/make_refl_goldens.py on the same networks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from sd_imagereward.core.refl import DiffusersGenerator, preset
from sd_imagereward.core.refl.checks import sampling_of
from sd_imagereward.core.refl.randomness import SampleNoise
from sd_imagereward.core.refl.tuning import FullTuning
from sd_imagereward.core.refl.update import rollout
from sd_imagereward.core.scorers.loading import load_scorer
from torch import Tensor

pytest.importorskip("diffusers", reason='diffusers is not installed (pip install -e ".[refl]")')
pytest.importorskip("yaml", reason='presets are YAML (pip install -e ".[refl]")')
GOLDENS = json.loads((Path(__file__).parents[2] / "goldens" / "refl.json").read_text())


class OneStream(SampleNoise):
    """The reference draws a whole batch from torch's own stream; ours gives each picture one of its own."""

    generators = None  # type: ignore[assignment] # the scheduler, too, takes torch's own

    def __init__(self, count: int) -> None:
        self.count = count

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(self.count, *shape)


@pytest.mark.parametrize(("kind", "case"), [("sd1", "sd1-full"), ("sdxl", "sdxl-full"), ("sdxl", "sdxl-lora")])
def test_loss_and_gradients_are_the_references(
    kind: str, case: str, make_pipeline: Callable[..., Any], tmp_path: Path
) -> None:
    """The LoRA trainer's lines give the U-Net the same gradient; a LoRA's own follows from it."""
    import pipelines

    golden, prompts = GOLDENS[kind], GOLDENS["prompts"]
    generator = DiffusersGenerator(pipelines.fill(make_pipeline(kind)), device="cpu")
    scorer = load_scorer(checkpoints.write_imagereward(tmp_path), device="cpu", dtype="fp32")
    scorer.network.requires_grad_(False)
    config = preset(case).but(width=GOLDENS["side"], height=GOLDENS["side"])
    torch.manual_seed(GOLDENS["seed"])
    noise, tuning = OneStream(len(prompts)), FullTuning(generator)
    result = rollout(
        generator,
        scorer,
        tuning,
        config,
        sampling_of(generator, config),
        prompts,
        noise,
        GOLDENS["stop"],
        Tensor.backward,
    )
    assert result.reward.tolist() == pytest.approx(golden["rewards"], abs=2e-4)
    assert result.reward_loss.item() == pytest.approx(golden["loss"], rel=2e-4)
    ours = {name: parameter.grad for name, parameter in tuning.parameters().items() if parameter.grad is not None}
    assert set(ours) == set(golden["gradients"])
    norms = {name: norm for name, (norm, _) in golden["gradients"].items()}
    largest = max(norms.values())
    for name, (norm, product) in golden["gradients"].items():
        flat = ours[name].double().flatten()
        wave = torch.cos(torch.arange(len(flat), dtype=torch.float64))
        assert flat.norm().item() == pytest.approx(norm, rel=1e-2, abs=1e-4 * largest), name
        assert (flat @ wave).item() == pytest.approx(product, abs=1e-2 * norm + 1e-4 * largest), name
