"""Keep generating until good: one queue, many tries, on a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hosts.comfyui.graphs import PROMPT, Graph, images, load, node, see
from hosts.comfyui.server import Run, Server
from PIL import Image
from sd_imagereward.core.pictures.texts import read_parameters, read_texts
from sd_imagereward.core.scoring.written import written_scores

END = "9"
OUTPUTS = ("images", "scores", "latents", "seeds", "passed", "tries", "text")


def start(seed: int = 100) -> dict[str, Any]:
    return node("SDImageRewardSeedOfEachTry", first_seed=seed)


def end(*seen: str, **more: Any) -> Graph:
    """The end as node 9, and what comes out of it as nodes called `see images` and the like."""
    settings = {"until": 2, "threshold": 0.0, "maximum_tries": 6, "if_none_pass": "best of all tries"}
    files = {"save_as_found": False, "filename_prefix": "found/%score%"}
    inputs = {"tries": ["1", 2], "reward_model": ["2", 0], "prompt": PROMPT, **settings, **files, **more}
    graph = {f"see {name}": see(END, OUTPUTS.index(name)) for name in seen}
    return {END: node("SDImageRewardKeepGenerating", **inputs), **graph}


def noise(seed: int = 100, count: int = 1, seen: tuple[str, ...] = OUTPUTS[3:], **more: Any) -> Graph:
    """Random pictures as images: quick tries."""
    made = {**images(count), "inputs": {**images(count)["inputs"], "seed": ["1", 0]}}
    return {"1": start(seed), "2": load(), "3": made, **end(*seen, **{"image": ["3", 0], **more})}


def sampled(seed: int = 100, sampler: str = "KSampler", batch: int = 1, **more: Any) -> Graph:
    """A sampling graph whose latents go to the end."""
    graph = {
        "1": start(seed),
        "2": load(),
        "4": node("TinyCheckpoint", seed=0),
        "5": node("CLIPTextEncode", text="a", clip=["4", 1]),
        "6": node("EmptyLatentImage", width=32, height=32, batch_size=batch),
    }
    shared = {"model": ["4", 0]}
    if sampler == "KSampler":
        conditions = {"positive": ["5", 0], "negative": ["5", 0], "latent_image": ["6", 0]}
        settings = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
        graph["7"] = node("KSampler", seed=["1", 0], **shared, **conditions, **settings)
    else:
        graph |= {
            "10": node("RandomNoise", noise_seed=["1", 0]),
            "11": node("BasicGuider", conditioning=["5", 0], **shared),
            "12": node("KSamplerSelect", sampler_name="euler"),
            "13": node("BasicScheduler", scheduler="simple", steps=2, denoise=1.0, **shared),
        }
        links = {"noise": ["10", 0], "guider": ["11", 0], "sampler": ["12", 0], "sigmas": ["13", 0]}
        graph["7"] = node("SamplerCustomAdvanced", latent_image=["6", 0], **links)
    return {**graph, **end(*OUTPUTS, **{"latent": ["7", 0], "vae": ["4", 2], **more})}


def seen(run: Run, name: str) -> Any:
    assert run.status == "execution_success", run.node_errors or run.error
    return run.outputs[f"see {name}"]["seen"]


def all_scores(server: Server, tries: int = 6, **more: Any) -> dict[int, float]:
    """The score of each seed."""
    run = server.run(noise(seen=("scores", "seeds"), until=1000, threshold=-100.0, maximum_tries=tries, **more))
    (scores,) = (one["scores"] for one in seen(run, "scores"))
    return dict(zip(seen(run, "seeds"), scores, strict=True))


class TestTries:
    def test_go_on_until_enough_pass_and_come_out_best_first(self, server: Server) -> None:
        by_seed = all_scores(server)
        assert sorted(by_seed) == [100, 101, 102, 103, 104, 105]
        threshold = sorted(by_seed.values())[2] + 1e-6  # three of six pass
        passing = [seed for seed in sorted(by_seed) if by_seed[seed] > threshold]
        run = server.run(noise(seen=OUTPUTS[:2] + OUTPUTS[3:], threshold=threshold))
        assert seen(run, "seeds") == sorted(passing[:2], key=lambda seed: -by_seed[seed])
        assert seen(run, "scores") == [{"scores": [by_seed[seed] for seed in seen(run, "seeds")]}]
        assert [one["shape"] for one in seen(run, "images")] == [[1, 32, 32, 3]] * 2
        tries = passing[1] - 99
        assert seen(run, "passed") == [2]
        assert seen(run, "tries") == [tries]
        assert seen(run, "text") == [f"2 of 2 images pass after {tries} tries."]

    def test_end_at_the_maximum_with_what_there_is(self, server: Server) -> None:
        best = max(all_scores(server).items(), key=lambda item: item[1])
        run = server.run(noise(threshold=best[1] - 1e-6, maximum_tries=6))
        assert seen(run, "seeds") == [best[0]]
        assert seen(run, "text") == ["1 of 2 images pass after 6 tries."]
