"""Three ways, positions and what lies at them, and images without a score, on a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hosts.comfyui.graphs import Graph, images, node, see
from hosts.comfyui.server import Run, Server

SCORES = (0.5, -1.0, 2.0, 0.0)
NAN = float("nan")
TEXTS = "a cat\na dog\na house\nthe sea"


def given(*scores: float, seed: int = 0, unequal: bool = False) -> Graph:
    """2 makes as many images as there are scores, 3 gives the scores, 4 a text for each, 5 latents."""
    return {
        "2": images(len(scores), seed=seed, unequal=unequal),
        "3": node("TinyAnything", lines="\n".join(map(json.dumps, scores))),
        "4": node("TinyTexts", lines="\n".join(TEXTS.split("\n")[: len(scores)])),
        "5": node("EmptyLatentImage", width=32, height=32, batch_size=len(scores)),
    }


def select(kind: str, **more: Any) -> dict[str, Any]:
    return node(f"SDImageReward{kind}", image=["2", 0], scores=["3", 0], **more)


def pick(items: str, positions: Any) -> dict[str, Any]:
    return node("SDImageRewardPickFromList", items=[items, 0], positions=positions)


def slot(server: Server, kind: str, name: str) -> int:
    """The number of an output by its name, as the host tells the page."""
    info = server.get(f"/object_info/SDImageReward{kind}")[f"SDImageReward{kind}"]
    return int(info["output_name"].index(name))


def seen(run: Run, node_id: str) -> Any:
    assert run.status == "execution_success", run.node_errors or run.error
    return run.outputs[node_id]["seen"]


class TestThreeWays:
    def test_great_kept_and_rejected(self, server: Server) -> None:
        names = [
            f"{side}_{what}" for side in ("great", "kept", "rejected") for what in ("count", "positions", "scores")
        ]
        graph = given(*SCORES)
        graph["6"] = select("Filter", threshold=0.0, keep_at_least=0, great_threshold=1.0)
        graph |= {name: see("6", slot(server, "Filter", name)) for name in names}
        run = server.run(graph)
        for side, positions in {"great": [2], "kept": [0, 3], "rejected": [1]}.items():
            assert seen(run, f"{side}_count") == [len(positions)]
            assert seen(run, f"{side}_positions") == positions
            assert seen(run, f"{side}_scores") == [{"scores": [SCORES[i] for i in positions]}]

    def test_a_graph_that_knows_one_threshold_alone(self, server: Server) -> None:
        graph = {**given(*SCORES), "6": select("Filter", threshold=0.0, keep_at_least=0)}
        graph |= {"7": see("6", 10), "8": see("6", slot(server, "Filter", "great_count"))}
        graph["9"] = see("6", slot(server, "Filter", "great_positions"))
        run = server.run(graph)
        assert seen(run, "7") == [3]
        assert seen(run, "8") == [0]
        assert "9" not in run.outputs

    def test_the_wrong_order_of_thresholds_is_a_sentence(self, server: Server) -> None:
        graph = {**given(*SCORES), "6": select("Filter", threshold=0.5, keep_at_least=0, great_threshold=0.0)}
        assert "'great_threshold' (0) is below 'threshold' (0.5)" in server.run({**graph, "7": see("6", 0)}).error


class TestPickFromList:
    @pytest.mark.parametrize("kind", ["batch", "list"])
    def test_what_belongs_to_the_best_two(self, server: Server, kind: str) -> None:
        graph = {**given(*SCORES, seed=1, unequal=kind == "list"), "6": select("Rank", top=2)}
        positions = ["6", slot(server, "Rank", "positions")]
        graph |= {
            "7": pick("4", positions),
            "8": pick("5", positions),
            "9": pick("2", positions),
            "10": pick("3", positions),
        }
        graph |= {f"see {name}": see(name, 0) for name in ("6", "7", "8", "9", "10")}
        run = server.run(graph)
        assert seen(run, "see 7") == ["a house", "a cat"]
        assert seen(run, "see 8") == [{"shape": [2, 4, 4, 4], "batch_index": [2, 0]}]
        assert seen(run, "see 9") == seen(run, "see 6")  # the same images, bit by bit, as Rank gives
        assert seen(run, "see 10") == [2.0, 0.5]

    def test_the_winner_goes_on_into_a_node_of_its_type(self, server: Server) -> None:
        graph = {**given(*SCORES), "6": select("PickBest")}
        graph |= {"7": pick("4", ["6", slot(server, "PickBest", "index")]), "8": pick("2", 1)}
        graph["9"] = node("ImageInvert", image=["8", 0])
        graph["10"] = node("StringConcatenate", string_a=["7", 0], string_b="!", delimiter="")
        run = server.run({**graph, "11": see("9", 0), "12": see("10", 0)})
        assert seen(run, "11")[0]["shape"] == [1, 32, 32, 3]
        assert seen(run, "12") == ["a house!"]

    def test_audio(self, server: Server) -> None:
        graph = {**given(1.0), "6": node("EmptyAudio", duration=0.1, sample_rate=8000, channels=1)}
        run = server.run({**graph, "7": pick("6", 0), "8": node("PreviewAudio", audio=["7", 0])})
        assert run.status == "execution_success", run.node_errors or run.error
        assert run.outputs["8"]["audio"]

    def test_a_side_without_images_is_skipped(self, server: Server) -> None:
        graph = {**given(*SCORES), "6": select("Filter", threshold=100.0, keep_at_least=0)}
        for name, side in {"7": "kept", "8": "rejected"}.items():
            graph[name] = pick("4", ["6", slot(server, "Filter", f"{side}_positions")])
        run = server.run({**graph, "9": see("7", 0), "10": see("8", 0)})
        assert "9" not in run.outputs
        assert seen(run, "10") == TEXTS.split("\n")

    def test_a_position_that_is_not_there_is_a_sentence(self, server: Server) -> None:
        run = server.run({**given(*SCORES), "6": pick("4", 4), "7": see("6", 0)})
        assert "no position 4 among 4 items" in run.error


class TestImagesWithoutAScore:
    def test_pick_best_refuses_if_none_has_one(self, server: Server) -> None:
        run = server.run({**given(NAN, NAN), "6": select("PickBest"), "7": see("6", 0)})
        assert "There is no best image" in run.error
        assert "got NaN for 2 images" in run.error

    def test_pick_best_leaves_them_out(self, server: Server) -> None:
        run = server.run({**given(NAN, -2.0, NAN), "6": select("PickBest"), "7": see("6", 3)})
        assert seen(run, "7") == [1]

    def test_rank_puts_them_last(self, server: Server) -> None:
        run = server.run({**given(NAN, -2.0, NAN, 1.0), "6": select("Rank", top=0), "7": see("6", 5)})
        assert seen(run, "7") == [3, 1, 0, 2]
        run = server.run({**given(NAN, NAN), "6": select("Rank", top=0), "7": see("6", 5)})
        assert seen(run, "7") == [0, 1]

    def test_filter_rejects_them(self, server: Server) -> None:
        graph = {**given(NAN, -2.0, NAN), "6": select("Filter", threshold=-100.0, keep_at_least=3)}
        graph |= {name: see("6", slot(server, "Filter", f"{name}_positions")) for name in ("kept", "rejected")}
        run = server.run(graph)
        assert (seen(run, "kept"), seen(run, "rejected")) == ([1], [0, 2])
