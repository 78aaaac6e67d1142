"""Keep generating until good: one queue, many tries, on a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hosts.comfyui.conftest import Start
from hosts.comfyui.graphs import PROMPT, Graph, images, load, node, score, see
from hosts.comfyui.server import Run, Server
from PIL import Image
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scoring.written import written_scores

END = "9"
OUTPUTS = ("images", "scores", "latents", "seeds", "passed", "tries", "text")


def first(seed: int = 100) -> dict[str, Any]:
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
    return {"1": first(seed), "2": load(), "3": made, **end(*seen, **{"image": ["3", 0], **more})}


def sampled(seed: int = 100, sampler: str = "KSampler", batch: int = 1, **more: Any) -> Graph:
    """A sampling graph whose latents go to the end."""
    graph = {
        "1": first(seed),
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

    def test_a_batch_passes_image_by_image(self, server: Server) -> None:
        run = server.run(noise(count=3, seen=("scores", "seeds"), until=4, threshold=-100.0))
        assert sorted(seen(run, "seeds")) == [100] * 3 + [101] * 3  # the last try may bring more
        (scores,) = (one["scores"] for one in seen(run, "scores"))
        assert scores == sorted(scores, reverse=True)

    def test_lists_of_unequal_sizes(self, server: Server) -> None:
        graph = noise(count=2, seen=("images", "tries"), until=4, threshold=-100.0)
        graph["3"]["inputs"]["unequal"] = True
        run = server.run(graph)
        assert sorted(one["shape"][2] for one in seen(run, "images")) == [32, 32, 64, 64]
        assert seen(run, "tries") == [2]

    @pytest.mark.parametrize("sampler", ["KSampler", "SamplerCustomAdvanced"])
    def test_any_sampler_with_latents_decoded_here(self, server: Server, sampler: str) -> None:
        run = server.run(sampled(sampler=sampler, batch=2, until=6, threshold=-100.0))
        assert sorted(seen(run, "seeds")) == [100, 100, 101, 101, 102, 102]
        assert len({one["bits"] for one in seen(run, "images")}) == 6
        assert {tuple(one["shape"]) for one in seen(run, "latents")} == {(1, 4, 4, 4)}
        assert {one["batch_index"][0] for one in seen(run, "latents")} == {0, 1}

    def test_the_try_makes_what_the_sampler_makes_with_that_seed(self, server: Server) -> None:
        run = server.run(sampled(seed=200, until=3, threshold=-100.0))
        alone = server.run(sampled(seed=202, until=1, threshold=-100.0))
        assert seen(alone, "images")[0]["bits"] == seen(run, "images")[seen(run, "seeds").index(202)]["bits"]

    def test_scores_and_prompts_of_other_nodes_are_made_anew(self, server: Server) -> None:
        """The Score node is one of those that run again; so is what it previews."""
        settings = {"plain_prompt": True, "chunk": 8}
        graph = noise(until=3, threshold=-100.0, seen=("scores", "seeds"), scores=["8", 1])
        del graph[END]["inputs"]["reward_model"]
        graph["8"] = node("SDImageRewardScore", reward_model=["2", 0], image=["3", 0], prompt=PROMPT, **settings)
        run = server.run(graph)
        (scores,) = (one["scores"] for one in seen(run, "scores"))
        by_seed = all_scores(server)
        assert scores == [by_seed[seed] for seed in seen(run, "seeds")]

    def test_one_loop_after_another(self, server: Server) -> None:
        """The second begins with what the first has found, which is not generated again."""
        graph = noise(until=1, threshold=-100.0, seen=())
        graph["20"] = first(500)
        graph["21"] = node("TinyCheckpoint", seed=0)
        graph["22"] = node("VAEEncode", pixels=[END, 0], vae=["21", 2])
        graph["23"] = node("CLIPTextEncode", text="a", clip=["21", 1])
        settings = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5}
        conditions = {"positive": ["23", 0], "negative": ["23", 0], "latent_image": ["22", 0]}
        graph["24"] = node("KSampler", seed=["20", 0], model=["21", 0], **conditions, **settings)
        graph["30"] = {**graph[END], "inputs": {**graph[END]["inputs"], "tries": ["20", 2], "until": 3}}
        del graph["30"]["inputs"]["image"]
        graph["30"]["inputs"] |= {"latent": ["24", 0], "vae": ["21", 2]}
        graph["see seeds"] = see("30", OUTPUTS.index("seeds"))
        run = server.run(graph)
        assert sorted(seen(run, "seeds")) == [500, 501, 502]
        assert not any(name.startswith("30.") and name.endswith(".3") for name in run.executed)

    def test_a_loop_within_a_loop(self, server: Server) -> None:
        graph = noise(until=2, threshold=-100.0, seen=())
        graph["20"] = first(500)
        graph["1"]["inputs"]["first_seed"] = ["20", 0]
        inputs = {**graph[END]["inputs"], "tries": ["20", 2], "until": 4, "image": [END, 0]}
        graph["30"] = {**graph[END], "inputs": inputs}
        graph["see seeds"] = see("30", OUTPUTS.index("seeds"))
        graph["see scores"] = see("30", OUTPUTS.index("scores"))
        run = server.run(graph)
        assert sorted(seen(run, "seeds")) == [500, 500, 501, 501]


class TestNothingPasses:
    def test_the_best_of_all_tries_comes_out(self, server: Server) -> None:
        best = max(all_scores(server).items(), key=lambda item: item[1])
        run = server.run(noise(seen=OUTPUTS[1:2] + OUTPUTS[3:], threshold=100.0))
        assert seen(run, "seeds") == [best[0]]
        assert seen(run, "scores") == [{"scores": [best[1]]}]
        assert seen(run, "passed") == [0]
        assert seen(run, "text")[0].startswith("0 of 2 images pass after 6 tries. The best score is ")

    def test_or_nothing_with_a_message(self, server: Server) -> None:
        graph = noise(seen=("images", "seeds", "passed"), threshold=100.0, maximum_tries=2, if_none_pass="nothing")
        run = server.run(graph)
        assert {"see passed"} == run.outputs.keys() & {"see images", "see seeds", "see passed"}
        said = run.of("execution_error")[0]["exception_message"]
        assert "0 of 2 images pass after 2 tries" in said
        assert "Lower 'threshold'" in said

    @pytest.mark.parametrize("if_none_pass", ["best of all tries", "nothing"])
    def test_nan_never_passes_and_is_not_tried_again(self, server: Server, if_none_pass: str) -> None:
        graph = noise(seen=("images", "tries", "text"), threshold=-100.0, if_none_pass=if_none_pass)
        graph["8"] = node("TinyNan", image=["3", 0])
        graph[END]["inputs"]["scores"] = ["8", 0]
        run = server.run(graph)
        assert run.outputs["see tries"]["seen"] == [1]
        assert "No image could be scored" in run.outputs["see text"]["seen"][0]
        assert "see images" not in run.outputs


class TestInterrupt:
    def test_stops_at_once_and_goes_on_when_queued_again(self, server: Server) -> None:
        graph = sampled(seed=300, until=5, threshold=-100.0, maximum_tries=5, save_as_found=True)
        graph[END]["inputs"]["filename_prefix"] = "interrupted/a"

        def interrupt(event: dict[str, Any]) -> None:
            if event["type"] == "executing" and str(event["data"]["node"]).endswith(".try4.7"):
                server.interrupt()

        run = server.run(graph, on_event=interrupt)
        assert run.status == "execution_interrupted"
        files = sorted((server.base / "output" / "interrupted").glob("*.png"))
        assert len(files) == 3
        assert all(written_scores(read_parameters(file) or "") for file in files)
        before = server.get("/tiny")["predicted"]
        again = server.run(graph)
        assert len(seen(again, "images")) == 5
        assert server.get("/tiny")["predicted"] - before == 2 * 2  # two tries of two steps were left

    def test_a_file_makes_its_own_image_again(self, server: Server) -> None:
        graph = noise(
            seed=320, until=3, threshold=-100.0, save_as_found=True, filename_prefix="again/a", seen=("seeds",)
        )
        workflow = {"nodes": [{"id": 1, "widgets_values": [320, "fixed"]}], "links": [], "version": 0.4}
        server.run(graph, workflow=workflow)
        seeds = []
        for file in sorted((server.base / "output" / "again").glob("*.png")):
            with Image.open(file) as picture:
                prompt, written = json.loads(picture.info["prompt"]), json.loads(picture.info["workflow"])
            seeds.append(prompt["1"]["inputs"]["first_seed"])
            assert written["nodes"][0]["widgets_values"] == [seeds[-1], "fixed"]
        assert seeds == [320, 321, 322]


class TestCache:
    def test_an_unchanged_run_is_not_repeated_and_another_seed_is(self, server: Server) -> None:
        def run(seed: int) -> tuple[Run, int]:
            before = server.get("/tiny")["predicted"]
            run = server.run(sampled(seed=seed, until=3, threshold=-100.0))
            return run, server.get("/tiny")["predicted"] - before

        assert run(400)[1] == 6
        again, predicted = run(400)
        assert predicted == 0
        assert END in again.cached
        assert run(900)[1] == 6


class TestPage:
    def test_bar_text_and_images_as_they_come(self, server: Server) -> None:
        run = server.run(noise(seed=600, until=3, threshold=-100.0))
        bars = [(data["value"], data["max"]) for data in run.of("progress") if data["node"] == END]
        assert [bar for bar in bars if bar[1] == 6] == [(1, 6), (2, 6), (3, 6)]
        shown = [data["output"] for data in run.of("executed") if data["display_node"] == END]
        assert [len(one["images"]) for one in shown] == [1, 2, 3]
        assert [one["text"][0] for one in shown] == [
            "ImageReward: 1 of 3 images pass, try 2",
            "ImageReward: 2 of 3 images pass, try 3",
            "3 of 3 images pass after 3 tries.",
        ]
        assert all(server.file(one).is_file() for one in shown[-1]["images"])

    def test_the_nodes_that_run_again_light_up(self, server: Server) -> None:
        run = server.run(sampled(seed=610, until=3, threshold=-100.0))
        lit = [data["display_node"] for data in run.of("executing") if data.get("node")]
        assert lit.count("7") == 3
        assert set(lit) <= {"1", "2", "4", "5", "6", "7", END, *(f"see {name}" for name in OUTPUTS)}

    def test_parts_are_not_offered(self, server: Server) -> None:
        info = server.get("/object_info")
        assert info["SDImageRewardJudgeTry"]["dev_only"]
        assert info["SDImageRewardNextTry"]["dev_only"]
        assert not info["SDImageRewardKeepGenerating"].get("dev_only")


class TestErrors:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"image": ["5", 0]}, "every try would be the same"),
            ({"image": None}, "No images"),
            ({"reward_model": None}, "Neither scores nor a reward model"),
            ({"prompt": ""}, "No prompt"),
        ],
        ids=["no seed", "no images", "no scores", "no prompt"],
    )
    def test_are_readable(self, server: Server, changed: dict[str, Any], said: str) -> None:
        graph = {**noise(), "5": images(seed=3)}
        inputs = {**graph[END]["inputs"], **changed}
        if changed.get("image", ...) is None:
            inputs["scores"] = ["8", 1]  # keeps the images' node before it
            graph["8"] = score(model="2", image="3")
        graph[END]["inputs"] = {name: value for name, value in inputs.items() if value is not None}
        run = server.run(graph)
        assert run.status == "execution_error"
        assert said in run.error

    def test_a_sampler_that_fails_shows_on_the_users_node_and_the_server_goes_on(self, server: Server) -> None:
        graph = sampled(seed=700, until=4, threshold=-100.0)
        graph["15"] = node("TinyTrouble", model=["4", 0], after=5)  # two steps a try
        graph["7"]["inputs"]["model"] = ["15", 0]
        run = server.run(graph)
        assert run.status == "execution_error"
        assert server.run(noise(seed=701)).status == "execution_success"


@pytest.mark.parametrize("flag", ["--cache-none", "--cache-classic", "--cache-lru=10"])
def test_every_kind_of_cache(base: Path, start: Start, flag: str) -> None:
    with start(base, *flag.split("=")) as server:
        run = server.run(sampled(seed=800, until=3, threshold=-100.0))
        assert sorted(seen(run, "seeds")) == [800, 801, 802]
        assert len({one["bits"] for one in seen(run, "images")}) == 3


@pytest.mark.parametrize(
    ("source", "flags"), [("latent", []), ("latent", ["--cache-classic"]), ("image", ["--cache-none"])]
)
def test_rejected_images_are_let_go(base: Path, start: Start, source: str, flags: list[str]) -> None:
    def held(tries: int) -> int:
        graph = sampled(seed=1000 * tries, threshold=100.0, maximum_tries=tries)
        graph["6"]["inputs"] |= {"width": 128, "height": 128}
        if source == "image":
            graph["8"] = node("VAEDecode", samples=["7", 0], vae=["4", 2])
            graph[END]["inputs"]["image"] = ["8", 0]
        run = server.run(graph)
        assert seen(run, "tries") == [tries]
        count: int = server.get("/tiny")["pictures"]
        return count

    with start(base, *flags) as server:
        few, many = held(2), held(10)
    assert many - few < 128 * 128 * 3 * 4
