"""What a user does with the nodes, on a real server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hosts.comfyui.graphs import PROMPT, images, load, node, score, scored, see
from hosts.comfyui.server import Run, Server
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.score import score_images
from sd_imagereward.core.scoring.written import written_scores

NODES = ("Load", "Mix", "Score", "Rank", "Filter", "PickBest", "Save", "ScoreTable", "LoadFolder", "SuggestPrompts")


def scores_of(run: Run, node_id: str = "3") -> list[float]:
    assert run.status == "execution_success", run.events[-1:] or run.node_errors
    values: list[float] = run.outputs[node_id]["scores"]
    return values


def save(image: list[Any], scores: list[Any], **more: Any) -> dict[str, Any]:
    settings = {"filename_prefix": "ImageReward/%score%", "format": "PNG", "quality": 95, **more}
    return node("SDImageRewardSave", image=image, scores=scores, **settings)


class TestTheServerKnowsUs:
    def test_all_nodes_with_the_name_in_their_title(self, server: Server) -> None:
        info = server.get("/object_info")
        for name in NODES:
            found = info[f"SDImageReward{name}"]
            assert "ImageReward" in found["display_name"]
            assert found["category"] == "ImageReward"

    def test_help_pages_are_served(self, server: Server) -> None:
        for name in NODES:
            page = server.read(f"/extensions/sd-imagereward/docs/SDImageReward{name}.md")
            assert page.startswith(b"# ImageReward")

    def test_english_texts_and_workflows_are_served(self, server: Server) -> None:
        texts = server.get("/i18n")["en"]["nodeDefs"]
        assert texts["SDImageRewardScore"]["display_name"] == "ImageReward Score"
        assert len(server.get("/workflow_templates")["sd-imagereward"]) == 6

    def test_nothing_of_ours_complains_at_the_start(self, server: Server) -> None:
        started = server.log().split("To see the GUI go to")[0]
        assert "Error while calling comfy_entrypoint" not in started
        named = [line for line in started.splitlines() if "sd-imagereward" in line or "ImageReward" in line]
        usual = ("Automatically register web folder web for sd-imagereward", "seconds:")  # the table of import times
        assert all(any(words in line for words in usual) and "FAILED" not in line for line in named), named


class TestScore:
    def test_scores_are_those_of_the_shell(self, server: Server, base: Path) -> None:
        graph = {**scored(size=48, seed=7), "4": save(["3", 0], ["3", 1], filename_prefix="shell/a")}
        run = server.run(graph)
        files = [server.file(one) for one in run.outputs["4"]["images"]]
        scorer = load_scorer(base / "models" / "ImageReward" / "tiny.pt", device="cpu")
        torch.testing.assert_close(
            torch.tensor(scores_of(run)), score_images(scorer, files, PROMPT).total, atol=1e-4, rtol=0
        )

    def test_each_preview_has_a_strip_with_its_score(self, server: Server) -> None:
        run = server.run(scored(size=64, seed=8))
        for shown in run.outputs["3"]["images"]:
            picture = np.asarray(Image.open(server.file(shown)).convert("L"))
            assert picture.shape == (652, 512)  # a small image is enlarged
            assert picture[512:].max() > 180

    def test_many_images_are_shown_as_a_table_and_named(self, server: Server) -> None:
        names = node("TinyTexts", lines="\n".join(f"file{i}" for i in range(64)))
        graph = {**scored(count=64, seed=11), "4": names, "3": score(names=["4", 0])}
        run = server.run(graph)
        assert len(scores_of(run)) == 64
        (shown,) = run.outputs["3"]["images"]
        assert Image.open(server.file(shown)).width == 1024
        assert "file63: ImageReward " in run.outputs["3"]["text"][0]

    def test_softmax_adds_up_to_one(self, server: Server) -> None:
        run = server.run({**scored(seed=12), "4": see("3", 6)})
        powers = np.exp(scores_of(run))
        assert run.outputs["4"]["seen"] == pytest.approx(list(powers / powers.sum()))

    def test_preview_as_text_shows_what_the_scores_say(self, server: Server) -> None:
        run = server.run({**scored(seed=13), "4": node("PreviewAny", source=["3", 1])})
        assert run.outputs["4"]["text"] == run.outputs["3"]["text"]
        assert "image 0: ImageReward " in run.outputs["4"]["text"][0]

    def test_progress_arrives(self, server: Server) -> None:
        run = server.run({**scored(count=6, seed=9), "3": score(chunk=2)})
        assert [(data["value"], data["max"]) for data in run.of("progress")][-1] == (6, 6)

    def test_a_list_of_unequal_sizes_and_prompts(self, server: Server) -> None:
        texts = node("TinyTexts", lines="a cat\na dog\na house\nthe sea")
        graph = {"1": load(), "2": images(seed=10, unequal=True), "5": texts, "3": score(prompt=["5", 0])}
        graph["4"] = see("3", 2)
        run = server.run(graph)
        assert len(scores_of(run)) == 4
        assert run.outputs["4"]["seen"] == scores_of(run)


class TestNothingIsScoredTwice:
    def test_an_unchanged_graph(self, server: Server) -> None:
        server.run(scored(seed=20))
        before = server.get("/tiny")["scored"]
        again = server.run(scored(seed=20))
        assert again.status == "execution_success"
        assert {"1", "2", "3"} <= again.cached
        assert server.get("/tiny")["scored"] == before

    def test_another_threshold(self, server: Server) -> None:
        def graph(threshold: float) -> dict[str, Any]:
            settings = {"threshold": threshold, "keep_at_least": 0, "prompt": PROMPT}
            by_itself = node("SDImageRewardFilter", image=["2", 0], reward_model=["1", 0], **settings)
            return {"1": load(), "2": images(seed=21), "3": by_itself, "4": see("3", 10)}

        server.run(graph(-100.0))
        before = server.get("/tiny")["scored"]
        assert server.run(graph(100.0)).outputs["4"]["seen"] == [0]
        assert server.get("/tiny")["scored"] == before


class TestSelection:
    def test_rank_filter_and_pick_carry_everything(self, server: Server) -> None:
        shared = {"image": ["3", 0], "scores": ["3", 1], "latent": ["5", 0], "mask": ["6", 0]}
        graph = {
            **scored(seed=30),
            "5": node("EmptyLatentImage", width=32, height=32, batch_size=4),
            "6": node("ImageToMask", image=["2", 0], channel="red"),
            "7": node("SDImageRewardRank", top=2, **shared),
            "8": node("SDImageRewardPickBest", **shared),
            "10": see("7", 2),
            "11": see("7", 5),
            "12": see("8", 2),
            "13": see("8", 3),
            "14": see("7", 0),
            "15": see("7", 3),
        }
        run = server.run(graph)
        values = scores_of(run)
        order = sorted(range(4), key=lambda i: -values[i])
        assert run.outputs["11"]["seen"] == order[:2]
        assert run.outputs["10"]["seen"] == [{"shape": [2, 4, 4, 4], "batch_index": order[:2]}]
        assert run.outputs["12"]["seen"] == [{"shape": [1, 4, 4, 4], "batch_index": order[:1]}]
        assert run.outputs["13"]["seen"] == order[:1]
        assert run.outputs["14"]["seen"][0]["shape"] == [2, 32, 32, 3]
        assert run.outputs["15"]["seen"][0]["shape"] == [2, 32, 32]

    def test_a_side_without_images_is_skipped_and_the_rest_runs(self, server: Server) -> None:
        shared = {"image": ["3", 0], "scores": ["3", 1]}
        graph = {
            **scored(seed=32),
            "4": node("SDImageRewardFilter", threshold=100.0, keep_at_least=0, **shared),
            "5": save(["4", 0], ["4", 1]),
            "6": save(["4", 5], ["4", 6], filename_prefix="rejected/%score%"),
        }
        run = server.run(graph)
        assert run.status == "execution_success"
        assert "5" not in run.outputs
        assert len(run.outputs["6"]["images"]) == 4

    def test_unequal_sizes_are_ranked_into_a_list(self, server: Server) -> None:
        graph = {"1": load(), "2": images(seed=33, unequal=True), "3": score()}
        graph["4"] = node("SDImageRewardRank", top=0, image=["3", 0], scores=["3", 1])
        graph["5"], graph["6"] = see("4", 0), see("4", 5)
        run = server.run(graph)
        order = run.outputs["6"]["seen"]
        assert [one["shape"][2] for one in run.outputs["5"]["seen"]] == [32 * (i + 1) for i in order]

    def test_an_output_without_its_input_says_so(self, server: Server) -> None:
        graph = {**scored(seed=34), "4": node("SDImageRewardRank", top=0, image=["3", 0], scores=["3", 1])}
        run = server.run({**graph, "5": see("4", 2)})
        assert any("latents" in data["exception_message"] for data in run.of("execution_error"))


class TestSave:
    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WebP"])
    def test_workflow_prompt_and_score_are_in_the_file(self, server: Server, format: str) -> None:
        graph = {**scored(count=2, seed=40), "4": save(["3", 0], ["3", 1], format=format)}
        workflow = {"nodes": [], "links": [], "version": 0.4}
        run = server.run(graph, workflow=workflow)
        for value, saved in zip(scores_of(run), run.outputs["4"]["images"], strict=True):
            assert saved["filename"].startswith(f"{value:.4f}_")
            file = server.file(saved)
            text = read_parameters(file) or ""
            assert written_scores(text) == {"ImageReward": pytest.approx(value, abs=1e-4)}
            assert parse_parameters(text).prompt == PROMPT
            with Image.open(file) as picture:
                texts = picture.info if format == "PNG" else _exif_texts(picture)
            assert json.loads(texts["prompt"])["3"]["class_type"] == "SDImageRewardScore"
            assert json.loads(texts["workflow"]) == workflow


def _exif_texts(picture: Image.Image) -> dict[str, str]:
    texts = [str(value).split(":", 1) for value in picture.getexif().values() if ":" in str(value)]
    return dict(texts)


class TestMixAndTable:
    def test_a_mixture_shows_its_components(self, server: Server) -> None:
        graph = {
            "1": load(),
            "4": load("other.pt"),
            "5": node("SDImageRewardMix", weights="1, 0.5", **{"models.model_1": ["1", 0], "models.model_2": ["4", 0]}),
            "2": images(seed=50),
            "3": score(model="5"),
            "6": node("SDImageRewardScoreTable", scores=["3", 1]),
            "7": save(["3", 0], ["3", 1], filename_prefix="mix/%score%"),
        }
        run = server.run(graph)
        line = (read_parameters(server.file(run.outputs["7"]["images"][0])) or "").splitlines()[-1]
        for title in ("Mix", "ImageReward", "ImageReward 2"):
            assert f"{title}: " in line
        chart = Image.open(server.file(run.outputs["6"]["images"][0]))
        assert chart.width == 640

    def test_a_mixture_of_one_is_refused_before_anything_runs(self, server: Server) -> None:
        graph = {**scored(seed=52), "5": node("SDImageRewardMix", weights="1, 1", **{"models.model_1": ["1", 0]})}
        run = server.run({**graph, "3": score(model="5")})
        assert run.status == "refused"
        assert "models.model_2" in str(run.node_errors)

    def test_a_table_of_many_named_scores_is_a_screen_high(self, server: Server) -> None:
        names = node("TinyTexts", lines="\n".join(f"file{i}" for i in range(64)))
        table = node("SDImageRewardScoreTable", scores=["3", 1], names=["4", 0])
        run = server.run({**scored(count=64, seed=53), "4": names, "6": table})
        assert 800 < Image.open(server.file(run.outputs["6"]["images"][0])).height < 950

    @pytest.mark.parametrize("lines", ["NaN\nNaN", "Infinity\n-Infinity\nNaN\n0.5"])
    def test_scores_that_are_no_numbers_are_drawn(self, server: Server, lines: str) -> None:
        run = server.run(
            {"4": node("TinyAnything", lines=lines), "6": node("SDImageRewardScoreTable", scores=["4", 0])}
        )
        assert run.status == "execution_success", run.error


class TestBypass:
    """A bypassed Score passes the images on, and the page posts a graph in which no scores are connected."""

    def test_save_is_refused_before_anything_runs(self, server: Server) -> None:
        settings = {"filename_prefix": "a", "format": "PNG", "quality": 95}
        run = server.run({"2": images(seed=90), "4": node("SDImageRewardSave", image=["2", 0], **settings)})
        assert run.status == "refused"
        assert "bypassed" in str(run.node_errors)

    @pytest.mark.parametrize(
        "reader",
        [node("SDImageRewardScoreTable"), node("SDImageRewardRank", image=["2", 0], top=0)],
        ids=["table", "rank"],
    )
    def test_the_message_names_it(self, server: Server, reader: dict[str, Any]) -> None:
        shown = node("PreviewAny", source=["4", 0])
        assert "bypassed" in server.run({"2": images(seed=91), "4": reader, "5": shown}).error

    def test_something_else_than_scores_names_it_too(self, server: Server) -> None:
        text = node("TinyAnything", lines='"a text"')
        run = server.run({"4": text, "5": node("SDImageRewardScoreTable", scores=["4", 0])})
        assert "got str" in run.error
        assert "bypassed" in run.error

    def test_a_mixture_file_beside_the_weights(self, server: Server) -> None:
        models = server.get("/object_info/SDImageRewardLoad")["SDImageRewardLoad"]["input"]["required"]["model"]
        assert "'mine.json'" in str(models)  # where the options lie differs between releases
        run = server.run({"1": load("mine.json"), "2": images(seed=51), "3": score(), "7": save(["3", 0], ["3", 1])})
        line = (read_parameters(server.file(run.outputs["7"]["images"][0])) or "").splitlines()[-1]
        scores = written_scores(line)
        assert list(scores) == ["Mix", "ImageReward", "ImageReward 2"]
        assert scores["Mix"] == pytest.approx(scores["ImageReward"] + 0.5 * scores["ImageReward 2"], abs=2e-4)


class TestErrors:
    @pytest.mark.parametrize(
        ("graph", "said"),
        [
            ({**scored(seed=60), "3": score(prompt=" ")}, "No prompt"),
            ({"1": load(), "2": images(channels=4), "3": score()}, "alpha"),
            (
                {**scored(seed=61), "4": node("TinyTexts", lines="a\nb"), "3": score(prompt=["4", 0])},
                "2 prompts for 4 images",
            ),
            ({"1": load(), "2": images(channels=0), "3": score()}, "MASK"),
            ({"1": load("imagereward"), "2": images(), "3": score()}, "ImageReward.pt"),
        ],
        ids=["no prompt", "alpha", "unequal counts", "mask", "not downloaded"],
    )
    def test_is_readable_on_the_node(self, server: Server, graph: dict[str, Any], said: str) -> None:
        run = server.run(graph)
        assert run.status == "execution_error"
        assert said in run.error

    def test_a_file_that_is_no_reward_model(self, server: Server, base: Path) -> None:
        torch.save({"model.diffusion_model.out.weight": torch.zeros(1)}, base / "models" / "ImageReward" / "sd.pt")
        run = server.run({**scored(), "1": load("sd.pt")})
        assert "Stable Diffusion checkpoint" in run.error

    def test_a_mask_cannot_be_connected(self, server: Server) -> None:
        graph = {**scored(), "2": node("SolidMask", value=1.0, width=8, height=8)}
        assert server.run(graph).status == "refused"

    def test_the_server_goes_on(self, server: Server) -> None:
        assert server.run(scored(seed=62)).status == "execution_success"


class TestInterrupt:
    def test_stops_between_chunks(self, server: Server) -> None:
        def interrupt(event: dict[str, Any]) -> None:
            if event["type"] == "progress":
                server.interrupt()

        before = server.get("/tiny")["scored"]
        run = server.run({**scored(count=2000, seed=70), "3": score(chunk=1)}, on_event=interrupt)
        assert run.status == "execution_interrupted"
        assert 0 < server.get("/tiny")["scored"] - before < 2000
        assert server.run(scored(seed=71)).status == "execution_success"


class TestMemory:
    def test_int8_weights_under_the_patcher(self, server: Server) -> None:
        exact = scores_of(server.run(scored(seed=84)))
        rough = scores_of(server.run({**scored(seed=84), "1": load(dtype="int8")}))
        assert rough != exact
        assert rough == pytest.approx(exact, abs=0.1)
        server.free()
        assert scores_of(server.run({**scored(seed=85), "1": load(dtype="int8")}))

    def test_one_patcher_for_all_nodes_that_leaves_when_told(self, server: Server) -> None:
        server.run({**scored(seed=80), "4": load(), "5": images(seed=81), "6": score(model="4", image="5")})
        assert server.get("/tiny")["loaded"].count("ImageRewardNetwork") == 1
        assert server.get("/tiny")["features"] > 0
        server.free()
        for _ in range(100):
            if not server.get("/tiny")["loaded"]:
                break
            time.sleep(0.1)  # the server frees between two looks into its queue
        assert server.get("/tiny")["loaded"] == []
        assert server.get("/tiny")["features"] == 0
        server.run(scored(seed=82))  # scores that are remembered would need no network
        assert server.get("/tiny")["loaded"].count("ImageRewardNetwork") == 1
