"""What the project is for, in the real ComfyUI: on networks that learned something, scores choose better pictures and a LoRA
trained by the node draws better ones. The truth reads the pictures alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hosts.comfyui.graphs import Graph, load, node
from hosts.comfyui.server import Run, Server
from hosts.miniature import NOISES, SLIGHT, Miniature, Rows, compare, truths, unpacked
from numpy.typing import NDArray
from PIL import Image
from sd_imagereward.examples.miniature.drawing import GUIDANCE, STEPS
from sd_imagereward.examples.miniature.stages import RANK, RATE, UPDATES
from sd_imagereward.examples.miniature.world import SIDE

MODEL, CLIP, VAE, TUNED = ["9", 0], ["9", 1], ["9", 2], ["10", 0]
TRAINING = {
    "steps": UPDATES,
    "batch_size": 8,
    "accumulation": 1,
    "learning_rate": RATE,
    "rank": RANK,
    "resolution": SIDE,
    "sampler": "ddim",
    "denoising_steps": STEPS,
    "stop_first": 3 * STEPS // 4,
    "stop_last": STEPS - 1,
    "cfg": GUIDANCE,
    "evaluation_cfg": GUIDANCE,
    "evaluation_images": 16,
    "evaluate_every": UPDATES // 5,
    "sweep": False,
    "gradient_checkpointing": False,
}


class Drawn(NamedTuple):
    all: list[list[Image.Image]]  # of each caption
    best: list[Image.Image]  # picked by the reward


@pytest.fixture(scope="module")
def miniature(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return unpacked(tmp_path_factory.mktemp("miniature"))


@pytest.fixture(scope="module")
def texts(miniature: Miniature) -> list[str]:
    return miniature.texts


@pytest.fixture(scope="module")
def furnished(server: Server, base: Path, miniature: Miniature) -> Server:
    checkpoints = base / "models" / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    shutil.copy(miniature.checkpoint, checkpoints)
    for name in ("reward", "clip"):
        shutil.copytree(miniature.folder / name, base / "models" / "ImageReward" / name)
    return server


@pytest.fixture(scope="module")
def untuned(furnished: Server, texts: list[str]) -> Drawn:
    return drawings(furnished, furnished.run({**base_graph(), **drawing(MODEL, texts)}), texts)


@pytest.fixture(scope="module")
def trained(furnished: Server, miniature: Miniature, texts: list[str]) -> tuple[Drawn, Run]:
    """Trained by the node, drawn with its output in the same run."""
    graph = {**base_graph(), "3": load("clip/model.safetensors"), "10": train(furnished, miniature.split.train)}
    run = furnished.run({**graph, **drawing(TUNED, texts)})
    return drawings(furnished, run, texts), run


def base_graph() -> Graph:
    return {
        "1": load("reward/ImageReward.safetensors"),
        "9": node("CheckpointLoaderSimple", ckpt_name="miniature.safetensors"),
    }


def train(server: Server, prompts: Sequence[str]) -> dict[str, object]:
    """Every widget at its default, then what suits so small a model."""
    inputs = server.get("/object_info/SDImageRewardTrainReFL")["SDImageRewardTrainReFL"]["input"]
    given = {name: spec[1]["default"] for name, spec in inputs["required"].items() if "default" in spec[1]}
    wires = {"model": MODEL, "clip": CLIP, "vae": VAE, "reward_model": ["1", 0], "held_out": ["3", 0]}
    texts = {"prompts": "\n".join(prompts), "file_name": "miniature"}
    return node("SDImageRewardTrainReFL", **{**given, **TRAINING, **texts, **wires})


def drawing(model: list[object], texts: Sequence[str]) -> Graph:
    """Of each text a batch, scored, all of it saved and the best once more."""
    graph = {
        "20": node("CLIPTextEncode", clip=CLIP, text=""),
        "21": node("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=NOISES),
    }
    sampling = {"steps": STEPS, "cfg": GUIDANCE, "sampler_name": "ddim", "scheduler": "ddim_uniform", "denoise": 1.0}
    for n, text in enumerate(texts):
        read, sampled, decoded, scored, best = (
            f"{n}-{what}" for what in ("read", "sampled", "decoded", "scored", "best")
        )
        wires = {"model": model, "positive": [read, 0], "negative": ["20", 0], "latent_image": ["21", 0]}
        graph |= {
            read: node("CLIPTextEncode", clip=CLIP, text=text),
            sampled: node("KSampler", seed=n, **wires, **sampling),
            decoded: node("VAEDecode", samples=[sampled, 0], vae=VAE),
            scored: node(
                "SDImageRewardScore", reward_model=["1", 0], image=[decoded, 0], prompt=text, plain_prompt=True, chunk=8
            ),
            best: node("SDImageRewardPickBest", scores=[scored, 1], image=[decoded, 0]),
            f"{n}-all": node("SaveImage", images=[decoded, 0], filename_prefix="all"),
            f"{n}-one": node("SaveImage", images=[best, 0], filename_prefix="one"),
        }
    return graph


def drawings(server: Server, run: Run, texts: Sequence[str]) -> Drawn:
    assert run.status == "execution_success", run.error if run.status == "execution_error" else run.node_errors

    def pictures(name: str) -> list[Image.Image]:
        return [Image.open(server.file(saved)).convert("RGB") for saved in run.outputs[name]["images"]]

    return Drawn(
        [pictures(f"{n}-all") for n in range(len(texts))], [pictures(f"{n}-one")[0] for n in range(len(texts))]
    )


def test_comfyui_draws_as_well_as_diffusers(untuned: Drawn, texts: list[str], miniature: Miniature) -> None:
    theirs = truths(texts, miniature.drawn_by_diffusers())
    rise, _ = compare("diffusers, then ComfyUI", theirs, truths(texts, untuned.all))
    assert rise.low < SLIGHT
    assert rise.high > -SLIGHT


def test_pick_best_picks_better_pictures(untuned: Drawn, texts: list[str]) -> None:
    every, best = truths(texts, untuned.all), truths(texts, [[one] for one in untuned.best])
    rise, _ = compare(f"one of {NOISES}, then the best by reward", every.mean(1, keepdims=True), best)
    assert rise.low > 0


def test_a_lora_trained_by_the_node_draws_better(untuned: Drawn, trained: tuple[Drawn, Run], texts: list[str]) -> None:
    print(trained[1].outputs["10"]["text"])
    rise, won = compare("untuned, then tuned", truths(texts, untuned.all), truths(texts, trained[0].all))
    assert rise.low > 0
    assert won.low > 0.5


def test_the_stock_loader_draws_the_same_with_the_file(
    furnished: Server, untuned: Drawn, trained: tuple[Drawn, Run], texts: list[str]
) -> None:
    few = texts[:4]
    file = trained[1].outputs["10"]["text"][0].split(":")[0]
    lora = node("LoraLoaderModelOnly", model=MODEL, lora_name=file, strength_model=1.0)
    drawn = pixels(drawings(furnished, furnished.run({**base_graph(), "10": lora, **drawing(TUNED, few)}), few).all)
    assert np.array_equal(drawn, pixels(trained[0].all[: len(few)]))
    assert not np.array_equal(drawn, pixels(untuned.all[: len(few)]))


def pixels(rows: Rows) -> NDArray[np.uint8]:
    return np.array([[np.asarray(one) for one in row] for row in rows])
