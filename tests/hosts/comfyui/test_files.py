"""Files that the nodes write and read, and what a browser can read of it, on a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hosts.comfyui.conftest import Start, furnish
from hosts.comfyui.graphs import Graph, images, load, node, score, scored, see
from hosts.comfyui.server import Run, Server
from PIL import Image

TODAY = f"{datetime.now():%Y-%m-%d}"


def anything(*values: Any) -> dict[str, Any]:
    return node("TinyAnything", lines="\n".join(map(json.dumps, values)))


def save(image: list[Any], scores: list[Any], prefix: Any = "ImageReward/%score%", **more: Any) -> dict[str, Any]:
    settings = {"filename_prefix": prefix, "format": "PNG", "quality": 95, **more}
    return node("SDImageRewardSave", image=image, scores=scores, **settings)


def saving(prefix: Any, count: int = 4, seed: int = 0, scores: tuple[float, ...] = ()) -> Graph:
    """2 makes images, 3 gives them scores, 4 saves them."""
    values = scores or (0.5,) * count
    return {"2": images(count, seed=seed), "3": anything(*values), "4": save(["2", 0], ["3", 0], prefix)}


def files_of(server: Server, run: Run, node_id: str = "4") -> list[Path]:
    assert run.status == "execution_success", run.events[-1:] or run.node_errors
    return [server.file(one) for one in run.outputs[node_id]["images"]]


def expected_pixels(count: int, seed: int, size: int = 32) -> np.ndarray:
    """As TinyImages makes them."""
    return torch.rand(count, size, size, 3, generator=torch.Generator().manual_seed(seed)).numpy()


def all_files(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file()}


class TestNoFileIsOverwritten:
    @pytest.mark.parametrize(
        ("prefix", "stem"),
        [
            ("winners/", "winners/0.5000"),
            ("ImageReward/", "ImageReward/0.5000"),
            ("", "0.5000"),
            ("plain", "plain"),
            ("a/b/%width%x%height%", "a/b/32x32"),
            ("%date:yyyy-MM-dd%/x", f"{TODAY}/x"),
            ("%TinyImages.size%/%score%", "32/0.5000"),
            ("what? a: b", "what_ a_ b"),
        ],
    )
    def test_two_runs_of_four_are_eight_files(self, server: Server, base: Path, prefix: str, stem: str) -> None:
        before = all_files(base / "output")
        files = [file for seed in (1, 2) for file in files_of(server, server.run(saving(prefix, seed=seed)))]
        assert files == [base / "output" / f"{stem}_{number:05}_.png" for number in range(1, 9)]
        assert all_files(base / "output") - before == set(files)
        pixels = np.concatenate([expected_pixels(4, seed) for seed in (1, 2)])
        for file, expected in zip(files, pixels, strict=True):
            assert np.abs(np.asarray(Image.open(file)) / 255 - expected).max() < 0.01

    def test_the_number_of_the_image(self, server: Server) -> None:
        names = [file.name for file in files_of(server, server.run(saving("n/%batch_num%")))]
        assert names == [f"{i}_00001_.png" for i in range(4)]

    def test_a_name_for_each_image(self, server: Server) -> None:
        graph = {**saving(["5", 0]), "5": anything("left", "right", "left", "new/%score%")}
        names = [file.name for file in files_of(server, server.run(graph))]
        assert names == ["left_00001_.png", "right_00001_.png", "left_00002_.png", "0.5000_00001_.png"]

    def test_two_servers_on_one_folder(self, server: Server, base: Path, start: Start) -> None:
        found: dict[Server, list[Path]] = {}
        with start(base) as other:

            def run(one: Server) -> None:
                found[one] = files_of(one, one.run(saving("both/x", count=60, seed=3)))

            threads = [threading.Thread(target=run, args=(one,)) for one in (server, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert {*found[server], *found[other]} == all_files(base / "output" / "both")
        assert len(all_files(base / "output" / "both")) == 120
        for files in found.values():
            for file, expected in zip(files, expected_pixels(60, 3), strict=True):
                assert np.abs(np.asarray(Image.open(file)) / 255 - expected).max() < 0.01

    def test_the_images_go_on(self, server: Server) -> None:
        run = server.run({**saving("on/x"), "5": see("2", 0), "6": see("4", 0)})
        assert run.outputs["6"]["seen"] == run.outputs["5"]["seen"]


class TestWhatIsSavedStays:
    def test_an_interrupt_keeps_what_was_saved(self, server: Server, base: Path) -> None:
        def interrupt(event: dict[str, Any]) -> None:
            if event["type"] == "progress" and event["data"]["value"] >= 3:
                server.interrupt()

        run = server.run(saving("half/x", count=3000), on_event=interrupt)
        assert run.status == "execution_interrupted"
        files = sorted((base / "output" / "half").iterdir())
        assert 3 <= len(files) < 3000
        assert [file.name for file in files] == [f"x_{i + 1:05}_.png" for i in range(len(files))]
        Image.open(files[-1]).load()

    def test_one_that_cannot_be_saved_costs_no_other(self, server: Server, base: Path) -> None:
        run = server.run({**saving(["5", 0]), "5": anything("most/a", "../../b", "most/c", "most/d")})
        assert run.status == "execution_error"
        assert "1 of 4 images could not be saved, the others are. image 2: Expected a filename_prefix" in run.error
        assert len(all_files(base / "output" / "most")) == 3

    @pytest.mark.parametrize("prefix", ["../x", "/tmp/x", "a/../../x"])
    def test_a_prefix_that_leads_out_is_said(self, server: Server, prefix: str) -> None:
        assert "stays in ComfyUI's output folder" in server.run(saving(prefix)).error


class TestFoldersStayInside:
    @pytest.fixture
    def folder(self, base: Path) -> Iterator[Path]:
        """input/set with a picture, a link to one outside, and links that lead out."""
        secret = base / "secret"
        secret.mkdir(exist_ok=True)
        for path in (secret / "x.png", base / "input" / "set" / "a.png", base / "output" / "set" / "a.png"):
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)
        links = [base / "input" / "out", base / "output" / "out", base / "input" / "set" / "b.png"]
        for link, target in zip(links, (secret, secret, secret / "x.png"), strict=True):
            link.symlink_to(target)
        yield secret
        for link in links:
            link.unlink()

    @pytest.mark.parametrize("name", ["../secret", "..", "set/../../secret", "out", "/tmp", "gone", "\0", 5])
    def test_a_linked_name_that_leads_out(self, server: Server, folder: Path, name: Any) -> None:
        graph = {"1": anything(name), "2": node("SDImageRewardLoadFolder", folder=["1", 0]), "3": see("2", 1)}
        run = server.run(graph)
        assert run.status == "execution_error"
        assert "not found below ComfyUI's input folder" in run.error
        more = {"min_score": -100.0, "best_n": 0, "sort": "best first", "score_name": ""}
        for top in ("output/", "input/") if isinstance(name, str) else ("",):
            place = f"{top}{name}" if top else name
            graph = {"1": anything(place), "2": node("SDImageRewardLoadScored", folder=["1", 0], **more)}
            run = server.run({**graph, "3": see("2", 3)})
            assert "not found in ComfyUI's output or input" in run.error

    def test_an_absolute_path(self, server: Server, folder: Path) -> None:
        graph = {"1": anything(str(folder)), "2": node("SDImageRewardLoadFolder", folder=["1", 0]), "3": see("2", 1)}
        assert "not found below" in server.run(graph).error

    def test_a_linked_file_is_left_out(self, server: Server, folder: Path) -> None:
        graph = {"1": anything("set"), "2": node("SDImageRewardLoadFolder", folder=["1", 0]), "3": see("2", 1)}
        assert server.run(graph).outputs["3"]["seen"] == ["a"]
        assert "b.png, a link to a file outside of" in server.log()

    def test_the_list_offers_no_link_that_leads_out(self, server: Server, folder: Path) -> None:
        for name in ("LoadFolder", "LoadScored"):
            info = json.dumps(server.get(f"/object_info/SDImageReward{name}"))
            assert "set" in info
            assert '"out"' not in info
            assert "/out" not in info

    def test_a_new_file_is_noticed_behind_a_link(self, server: Server, folder: Path, base: Path) -> None:
        graph = {"1": anything("set"), "2": node("SDImageRewardLoadFolder", folder=["1", 0]), "3": see("2", 1)}
        server.run(graph)
        Image.new("RGB", (8, 8)).save(base / "input" / "set" / "c.png")
        assert server.run(graph).outputs["3"]["seen"] == ["a", "c"]


class TestTheBrowserCanReadIt:
    """`Server.get` and the listener refuse NaN and Infinity, as a browser does."""

    VALUES = (float("inf"), float("-inf"), float("nan"), 0.5)

    @pytest.mark.parametrize(
        "of_scores",
        [
            node("SDImageRewardPickBest", image=["2", 0], scores=["3", 0]),
            node("SDImageRewardScoreTable", scores=["3", 0]),
            save(["2", 0], ["3", 0], "endless/%score%"),
        ],
        ids=["Pick Best", "Score Table", "Save"],
    )
    def test_scores_without_end(self, server: Server, of_scores: dict[str, Any]) -> None:
        run = server.run({**saving("x", scores=self.VALUES), "4": of_scores, "5": see("4", 0)})
        assert run.status == "execution_success", run.error
        assert run.outputs["4"]["images"]

    def test_a_model_whose_scores_have_no_end(self, server: Server, base: Path) -> None:
        models = base / "models" / "ImageReward"
        tensors = torch.load(models / "tiny.pt")
        tensors["mlp.layers.4.bias"] = torch.full_like(tensors["mlp.layers.4.bias"], float("inf"))
        torch.save(tensors, models / "endless.pt")
        run = server.run({**scored(seed=90), "1": load("endless.pt")})
        assert run.outputs["3"]["scores"] == [None] * 4
        assert "image 3: ImageReward" in run.outputs["3"]["text"][0]

    @pytest.mark.parametrize(
        "asker",
        [
            node("SDImageRewardLoad", model=["1", 0], dtype="auto", device="auto"),
            node("SDImageRewardLoadFolder", folder=["1", 0]),
            node("SDImageRewardLoadScored", folder=["1", 0], min_score=0.0, best_n=0, sort="by name", score_name=""),
        ],
        ids=["Load", "Load Folder", "Load Scored"],
    )
    def test_what_a_linked_name_leaves_in_the_history(self, server: Server, asker: dict[str, Any]) -> None:
        """ComfyUI writes NaN there if `fingerprint_inputs` fails."""
        run = server.run({"1": anything("gone"), "2": asker, "3": see("2", 0)})
        assert run.status == "execution_error"
        server.get("/history")

    def test_many_files_do_not_swell_the_history(self, server: Server, base: Path) -> None:
        place = base / "input" / "many"
        place.mkdir(exist_ok=True)
        for i in range(50):
            Image.new("RGB", (2, 2)).save(place / f"picture{i}.png")
        graph = {"2": node("SDImageRewardLoadFolder", folder="many"), "3": see("2", 1)}
        assert len(server.run(graph).outputs["3"]["seen"]) == 50
        history = json.dumps(server.get("/history?max_items=1"))
        assert history.count("picture7.png") == 0

    def test_everything_else_the_page_asks_for(self, server: Server) -> None:
        for path in ("/object_info", "/queue", "/history", "/system_stats"):
            server.get(path)


class TestInterruptAnswers:
    @pytest.mark.parametrize("chunk", [8, 256])
    def test_within_a_second_or_so(self, comfyui: Path, start: Start, tmp_path: Path, chunk: int) -> None:
        """Each image takes some five seconds, as a large model does on a slow CPU."""
        asked: list[float] = []
        answered: list[float] = []
        with start(furnish(tmp_path / "slow", "sd-imagereward")) as server:

            def interrupt() -> None:
                asked.append(time.monotonic())
                server.interrupt()

            def soon(event: dict[str, Any]) -> None:
                if event["type"] == "executing" and event["data"]["node"] == "3":
                    threading.Timer(1.5, interrupt).start()
                if event["type"] == "execution_interrupted":
                    answered.append(time.monotonic())

            slow = node("TinySlow", reward_model=["1", 0], seconds=0.3)
            graph = {"1": load(), "2": images(16), "6": slow, "3": score(model="6", chunk=chunk)}
            run = server.run(graph, on_event=soon)
            assert run.status == "execution_interrupted"
            assert answered[0] - asked[0] < 2.0  # a second, and one for a busy machine
            assert server.get("/tiny")["scored"] == 1  # which the interrupt cut off

    def test_the_bar_moves_every_half_second(self, comfyui: Path, start: Start, tmp_path: Path) -> None:
        times: list[float] = []
        with start(furnish(tmp_path / "slow", "sd-imagereward")) as server:

            def note(event: dict[str, Any]) -> None:
                if event["type"] == "progress":
                    times.append(time.monotonic())

            slow = node("TinySlow", reward_model=["1", 0], seconds=0.005)
            graph = {"1": load(), "2": images(40), "6": slow, "3": score(model="6", chunk=256)}
            assert server.run(graph, on_event=note).status == "execution_success"
        gaps = np.diff(times)
        assert len(gaps) >= 4
        assert gaps.max() < 2.0
