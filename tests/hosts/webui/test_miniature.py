"""A LoRA of ReFL draws better shapes in a real AUTOMATIC1111, on a model that learned to draw them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hosts.miniature import NOISES, SLIGHT, Miniature, compare, truths, unpacked
from PIL import Image
from sd_imagereward.core.refl.config import ReflConfig
from sd_imagereward.core.refl.loop import ReflTrainer
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.examples.miniature.drawing import GUIDANCE, STEPS
from sd_imagereward.examples.miniature.networks import WIDTH
from sd_imagereward.examples.miniature.stages import RANK, RATE, UPDATES
from sd_imagereward.examples.miniature.world import SIDE

from .conftest import kind_of, webui_root
from .make_checkpoint import write_clip, write_config
from .server import WebUI
from .test_lora import complaints

pytestmark = pytest.mark.host

NETWORKS = Path(__file__).resolve().parent / "networks"
SIZES = {
    "ldm.modules.diffusionmodules.openaimodel.UNetModel": "miniature_networks.UNet",
    "ldm.models.autoencoder.AutoencoderKL": "miniature_networks.Autoencoder",
    "model_channels: 320": "model_channels: 32",
    "channel_mult: [ 1, 2, 4, 4 ]": "channel_mult: [ 1, 2 ]",
    "num_heads: 8": "num_heads: 4",
    "context_dim: 768": f"context_dim: {WIDTH}",
    "          ch: 128": "          ch: 8",
    "          num_res_blocks: 2": "          num_res_blocks: 1",
}
TRAINING = ReflConfig(
    width=SIDE,
    height=SIDE,
    sampler="ddim",
    denoising_steps=STEPS,
    stop_window=(3 * STEPS // 4, STEPS - 1),
    lora_rank=RANK,
    batch_size=8,
    accumulation=1,
    learning_rate=RATE,
    steps=UPDATES,
    evaluate_every=UPDATES // 5,
    evaluation_images=16,
    guidance=GUIDANCE,
    evaluation_guidance=GUIDANCE,
    sweep=False,
    dtype="float32",
    device="cpu",
    gradient_checkpointing=False,
    tracker="none",
)


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Miniature:
    root = webui_root()
    if kind_of(root) is not WebUI or (root / "modules_forge").is_dir():
        pytest.skip("AUTOMATIC1111 alone builds a checkpoint's networks as a .yaml beside it says")
    made = unpacked(tmp_path_factory.mktemp("miniature"))
    clip = made.folder / "text-encoder"
    write_clip(clip, shared_data / "clip-tokenizer", WIDTH, 4 * WIDTH, heads=1, layers=2)
    write_config(root, made.checkpoint.with_suffix(".yaml"), clip, SIZES)
    return made


@pytest.fixture(scope="module")
def lora(miniature: Miniature) -> Path:
    """Trained as `imagereward refl` trains."""
    from sd_imagereward.core.refl.diffusers_generator import DiffusersGenerator

    generator = DiffusersGenerator.load(str(miniature.folder / "model"), device="cpu")
    reward, other = (
        load_scorer(str(miniature.folder / name))
        for name in ("reward/ImageReward.safetensors", "clip/model.safetensors")
    )
    split = miniature.split
    config = TRAINING.but(prompts=tuple(split.train), evaluation_prompts=tuple(split.valid))
    result = ReflTrainer(generator, reward, config, held_out=other).train()
    return result.write_lora(miniature.folder / "lora.safetensors")


@pytest.fixture(scope="module")
def webui(furnish: Callable[..., WebUI], miniature: Miniature, lora: Path) -> Iterator[WebUI]:
    server = furnish("--loglevel", "DEBUG", checkpoint=miniature.checkpoint)
    (server.models / "Lora").mkdir()
    shutil.copyfile(lora, server.models / "Lora" / "miniature.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(NETWORKS), os.environ.get("PYTHONPATH", "")]))
        try:
            yield server.start()
        finally:
            server.stop()


def draw(webui: WebUI, texts: Sequence[str], behind: str = "") -> list[list[Image.Image]]:
    sampling = {"sampler_name": "DDIM", "steps": STEPS, "cfg_scale": GUIDANCE, "width": SIDE, "height": SIDE}
    batch = {"batch_size": NOISES, "n_iter": 1, "save_images": False}
    rows = []
    for n, text in enumerate(texts):
        result = webui.generate(script=None, prompt=text + behind, seed=100 * n, **sampling, **batch)
        rows.append(result.images[result.grids :])
    return rows


def test_it_draws_as_well_as_diffusers_and_better_with_the_lora(webui: WebUI, miniature: Miniature) -> None:
    texts = miniature.texts
    plain = truths(texts, draw(webui, texts))
    difference, _ = compare("diffusers, then AUTOMATIC1111", truths(texts, miniature.drawn_by_diffusers()), plain)
    assert difference.low < SLIGHT
    assert difference.high > -SLIGHT
    tuned = truths(texts, draw(webui, texts, " <lora:miniature:1>"))
    assert complaints(webui) == []
    rise, won = compare("without the LoRA, then with it", plain, tuned)
    assert rise.low > 0
    assert won.low > 0.5
