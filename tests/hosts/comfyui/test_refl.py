"""Training and noise optimisation on a real server, on tiny real networks of three kinds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hosts.comfyui.graphs import Graph, load, node, see
from hosts.comfyui.server import Run, Server
from safetensors import safe_open

# One step from noise to picture, so that a few updates show.
QUICK = {
    "steps": 10,
    "batch_size": 4,
    "accumulation": 1,
    "resolution": 64,
    "sampler": "euler",
    "denoising_steps": 1,
    "stop_first": 0,
    "stop_last": 0,
    "evaluate_every": 5,
    "evaluation_images": 2,
    "evaluation_cfg": 1.0,
    "learning_rate": 3e-3,
    "scale": 1.0,
    "threshold": 10.0,
    "rank": 16,
    "layers": "linear",
}
TRAIN, MODEL, TUNED = "10", ["9", 0], ["10", 0]


KINDS = [("sd1", "sd_v1"), ("sd2", "sd_v2_v"), ("sdxl", "sdxl_base_v1-0"), ("sd3", "sd3"), ("flux", "flux1")]


def checkpoint(kind: str = "sd1", seed: int = 0) -> dict[str, Any]:
    return node("TinyCheckpoint", seed=seed, kind=kind)


def train(server: Server, **changes: Any) -> dict[str, Any]:
    """Every widget at its default, then what is asked for."""
    inputs = server.get("/object_info/SDImageRewardTrainReFL")["SDImageRewardTrainReFL"]["input"]
    given = {name: spec[1]["default"] for name, spec in inputs["required"].items() if "default" in spec[1]}
    wires = {"model": MODEL, "clip": ["9", 1], "vae": ["9", 2], "reward_model": ["1", 0]}
    return node("SDImageRewardTrainReFL", **{**given, **QUICK, "prompts": "a cat", **wires, **changes})


def training(server: Server, kind: str = "sd1", **changes: Any) -> Graph:
    return {"1": load(), "9": checkpoint(kind), TRAIN: train(server, **changes)}


def drawn(model: list[Any], first: int = 50) -> Graph:
    """A picture by stock nodes with a model, its bits seen by the last node."""
    names = [str(first + i) for i in range(6)]
    positive, negative, latent, sampled, decoded, seen = names
    widgets = {"seed": 4, "steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    wires = {"positive": [positive, 0], "negative": [negative, 0], "latent_image": [latent, 0]}
    return {
        positive: node("CLIPTextEncode", clip=["9", 1], text="a cat"),
        negative: node("CLIPTextEncode", clip=["9", 1], text=""),
        latent: node("EmptyLatentImage", width=64, height=64, batch_size=1),
        sampled: node("KSampler", model=model, **wires, **widgets),
        decoded: node("VAEDecode", samples=[sampled, 0], vae=["9", 2]),
        seen: see(decoded, 0),
    }


def base_bits(server: Server, kind: str = "sd1") -> list[str]:
    """The bits of MODEL, CLIP and VAE, and of a picture that they draw."""
    seers = {str(40 + slot): see("9", slot) for slot in range(3)}
    run = server.run({"9": checkpoint(kind), **seers, **drawn(MODEL)})
    assert run.status == "execution_success", run.error
    return [run.outputs[name]["seen"][0]["bits"] for name in ("40", "41", "42", "55")]


def bits(run: Run, name: str) -> str:
    assert run.status == "execution_success", run.events[-1] if run.status != "execution_error" else run.error
    found: str = run.outputs[name]["seen"][0]["bits"]
    return found


def rewards(run: Run) -> tuple[float, float]:
    """First and last, on the fixed pictures."""
    assert run.status == "execution_success", run.events[-1] if run.status != "execution_error" else run.error
    found = re.search(r"reward ([-+.\d]+) -> ([-+.\d]+)", run.outputs[TRAIN]["text"][0])
    assert found
    return float(found[1]), float(found[2])


def saved(run: Run, base: Path) -> Path:
    return base / "models" / "loras" / run.outputs[TRAIN]["text"][0].split(":")[0]


def metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as file:
        return dict(file.metadata())


def tensors(path: Path) -> dict[str, Any]:
    with safe_open(str(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, this is no dict


class TestTrain:
    @pytest.mark.parametrize(("kind", "version"), KINDS)
    def test_reward_rises_base_stays_and_the_file_draws_what_the_output_draws(
        self, server: Server, base: Path, kind: str, version: str
    ) -> None:
        before = base_bits(server, kind)
        # more transformer blocks, smaller steps
        more = {"learning_rate": 2e-3} if kind == "sdxl" else {}
        graph = training(server, kind, file_name=f"round trip/{kind}", **more)
        run = server.run({**graph, **drawn(TUNED)})
        first, last = rewards(run)
        assert last > first + 0.02
        assert base_bits(server, kind) == before
        file = saved(run, base)
        assert metadata(file)["ss_base_model_version"] == version
        assert bits(run, "55") != before[3]
        loaded = {
            "9": checkpoint(kind),
            "20": node(
                "LoraLoaderModelOnly", model=MODEL, lora_name=f"round trip/{kind}.safetensors", strength_model=1.0
            ),
        }
        assert bits(server.run({**loaded, **drawn(["20", 0])}), "55") == bits(run, "55")
        assert "not loaded" not in server.log()  # what ComfyUI says of keys that fit nothing
        assert (f"training {kind} is experimental" in server.log()) == (kind in ("sd3", "flux"))

    def test_stock_nodes_take_the_outputs(self, server: Server, base: Path) -> None:
        known = server.get("/object_info")
        newer = known["LoraModelLoader"]["input"]["required"].keys() & {"bypass"}
        save = "SaveLoRA" if "SaveLoRA" in known else "SaveLoRANode"
        graph = {
            **training(server, file_name="stock", seed=3),
            "20": node(
                "LoraModelLoader", model=MODEL, lora=[TRAIN, 1], strength_model=1.0, **dict.fromkeys(newer, False)
            ),
            "21": node("LossGraphNode", loss=[TRAIN, 2], filename_prefix="loss"),
            "22": node(save, lora=[TRAIN, 1], prefix="loras/ours", steps=[TRAIN, 3]),
            "23": node("PreviewImage", images=[TRAIN, 4]),
            "24": node("PreviewImage", images=[TRAIN, 5]),
            "25": see(TRAIN, 6),
            "26": see(TRAIN, 5),
            **drawn(["20", 0]),
            **drawn(TUNED, first=60),
        }
        run = server.run(graph)
        assert bits(run, "55") == bits(run, "65")
        assert run.outputs["25"]["seen"] == ["stock.safetensors"]
        assert run.outputs["26"]["seen"][0]["shape"] == [2, 64, 64 + 8 + 64, 3]
        assert list((base / "output" / "loras").glob("ours_10_steps_*.safetensors"))

    def test_ten_widgets_are_shown_and_the_others_folded(self, server: Server) -> None:
        inputs = server.get("/object_info/SDImageRewardTrainReFL")["SDImageRewardTrainReFL"]["input"]["required"]
        shown = [name for name, spec in inputs.items() if "default" in spec[1] and not spec[1].get("advanced")]
        assert len(shown) == 10
        assert {"cfg", "evaluate_every", "continue_from", "threshold"}.isdisjoint(shown)

    def test_the_technical_scorer_as_reward_trains_and_says_that_nothing_watched(self, server: Server) -> None:
        graph = {**training(server, file_name="technical", steps=4), "1": load("technical")}
        run = server.run(graph)
        rewards(run)
        assert "no held-out scorer watched the run" in run.outputs[TRAIN]["text"][0]

    def test_prompts_are_encoded_once_and_progress_comes_with_previews(self, server: Server, base: Path) -> None:
        (base / "input" / "prompts.txt").write_text("a dog\na house\n")
        before = server.get("/tiny")["encoded"]
        run = server.run(training(server, prompts_file="prompts.txt", file_name="encoded", seed=4))
        rewards(run)
        assert server.get("/tiny")["encoded"] - before == 4  # three prompts and the empty negative one
        values = [(data["value"], data["max"]) for data in run.of("progress") if data["node"] == TRAIN]
        assert values == sorted(values)
        assert len(values) > 10
        assert "ImageReward ReFL 10/10: reward" in server.log()

    def test_another_file_name_does_not_train_again(self, server: Server, base: Path) -> None:
        one = server.run(training(server, file_name="one", seed=5))
        before = server.get("/tiny")["predicted"]
        other = server.run(training(server, file_name="other", seed=5))
        rewards(other)
        assert server.get("/tiny")["predicted"] == before
        first, second = tensors(saved(one, base)), tensors(saved(other, base))
        assert saved(one, base) != saved(other, base)
        assert all((first[key] == second[key]).all() for key in first)
        assert metadata(saved(other, base))["ss_output_name"] == "other"

    def test_without_the_sweep_no_strength_is_recommended(self, server: Server, base: Path) -> None:
        run = server.run(training(server, file_name="not swept", seed=9, steps=1, sweep=False))
        rewards(run)
        assert run.outputs[TRAIN]["text"][0].endswith("; the strength was not swept")
        assert "refl_recommended_strength" not in metadata(saved(run, base))

    def test_goes_on_from_a_lora(self, server: Server, base: Path) -> None:
        first = server.run(training(server, file_name="start", seed=6, steps=5, rank=4))
        second = server.run(training(server, file_name="gone on", seed=7, steps=5, continue_from="start.safetensors"))
        rewards(second)
        before, after = tensors(saved(first, base)), tensors(saved(second, base))
        assert before.keys() == after.keys()
        assert metadata(saved(second, base))["ss_network_dim"] == "4"
        assert any((before[key] != after[key]).any() for key in before if "lora_up" in key)


class TestStopped:
    def test_interrupt_holds_at_once_saves_the_lora_and_leaves_the_base(self, server: Server, base: Path) -> None:
        before = base_bits(server)
        counts: list[int] = []

        def interrupt(event: dict[str, Any]) -> None:
            if event["type"] == "progress" and event["data"]["value"] > 6 and not counts:
                server.interrupt()
                counts.append(server.get("/tiny")["predicted"])

        long = {"steps": 500, "batch_size": 1, "denoising_steps": 20, "stop_first": 18, "stop_last": 19}
        run = server.run(training(server, file_name="stopped", **long), on_event=interrupt)
        assert run.status == "execution_interrupted"
        assert server.get("/tiny")["predicted"] - counts[0] <= 2
        stopped = base / "models" / "loras" / "stopped.safetensors"
        assert re.search(r"weights after \d+ of 500 updates", metadata(stopped)["refl_note"])
        assert base_bits(server) == before
        rewards(server.run(training(server, file_name="after", seed=8, steps=1)))

    def test_out_of_memory_names_the_widgets_saves_the_lora_and_leaves_the_base(
        self, server: Server, base: Path
    ) -> None:
        before = base_bits(server)
        graph = training(server, file_name="short", model=["8", 0])
        run = server.run({**graph, "8": node("TinyTrouble", model=MODEL, after=8)})
        assert run.status == "execution_error"
        assert "lower 'resolution' or 'batch_size'" in run.error
        assert "after" in metadata(base / "models" / "loras" / "short.safetensors")["refl_note"]
        assert base_bits(server) == before

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"prompts": " \n"}, "No prompts"),
            ({"denoising_steps": 4, "stop_first": 4, "stop_last": 9}, "stop_window is 4..3"),
            ({"held_out": ["1", 0]}, "'held_out' is the reward model itself"),
            ({"resolution": 64, "file_name": "../out"}, "no name for a file"),
            ({"gradient_steps": 3}, "gradient_steps is 3"),
        ],
    )
    def test_bad_input_is_refused_in_words(self, server: Server, changes: dict[str, Any], text: str) -> None:
        run = server.run(training(server, **changes))
        assert run.status == "execution_error"
        assert text in run.error


class TestOptimiseNoise:
    def test_the_start_is_better_and_a_stock_sampler_draws_the_same_picture(self, server: Server) -> None:
        before = base_bits(server)
        sampler = {"steps": 2, "cfg": 1.0, "scheduler": "simple"}
        wires = {"model": MODEL, "clip": ["9", 1], "vae": ["9", 2], "reward_model": ["1", 0], "latent": ["3", 0]}
        begins = {
            "start_at_step": 0,
            "end_at_step": 100,
            "add_noise": "disable",
            "return_with_leftover_noise": "disable",
        }
        graph = {
            "1": load(),
            "9": checkpoint(),
            "3": node("EmptyLatentImage", width=64, height=64, batch_size=2),
            "4": node(
                "SDImageRewardOptimiseNoise",
                **wires,
                **sampler,
                sampler="euler",
                prompt="a cat",
                iterations=6,
                seed=1,
                learning_rate=5.0,
                regularisation=0.01,
            ),
            "5": node("CLIPTextEncode", clip=["9", 1], text="a cat"),
            "6": node(
                "KSamplerAdvanced",
                model=MODEL,
                positive=["5", 0],
                negative=["5", 0],
                latent_image=["4", 0],
                noise_seed=0,
                sampler_name="euler",
                **sampler,
                **begins,
            ),
            "7": node("VAEDecode", samples=["6", 0], vae=["9", 2]),
            "11": node(
                "SDImageRewardScore", reward_model=["1", 0], image=["7", 0], prompt="a cat", plain_prompt=True, chunk=8
            ),
            "12": see("4", 3),
            "13": see("4", 1),
        }
        run = server.run(graph)
        assert run.status == "execution_success", run.events[-1] if run.status != "execution_error" else run.error
        (best,) = run.outputs["12"]["seen"]
        assert max(run.outputs["11"]["scores"]) == pytest.approx(best, abs=2e-3)
        zero = server.run({**graph, "4": {**graph["4"], "inputs": {**graph["4"]["inputs"], "iterations": 1}}})
        assert best > zero.outputs["12"]["seen"][0] - 1e-6
        assert base_bits(server) == before

    @pytest.mark.parametrize(("kind", "empty"), [("sd1", "EmptyLatentImage"), ("flux", "EmptySD3LatentImage")])
    def test_a_custom_sampler_draws_the_same_picture_from_the_noise(
        self, server: Server, kind: str, empty: str
    ) -> None:
        """The only way for flow models; of two pictures, each from its own noise."""
        before = base_bits(server, kind)
        sampler = {"steps": 2, "scheduler": "simple"}
        wires = {"model": MODEL, "clip": ["9", 1], "vae": ["9", 2], "reward_model": ["1", 0], "latent": ["3", 0]}
        widgets = {"prompt": "a cat", "iterations": 3, "seed": 1, "learning_rate": 5.0, "regularisation": 0.01}
        graph = {
            "1": load(),
            "9": checkpoint(kind),
            "3": node(empty, width=64, height=64, batch_size=2),
            "4": node("SDImageRewardOptimiseNoise", **wires, **sampler, **widgets, cfg=1.0, sampler="euler"),
            "5": node("CLIPTextEncode", clip=["9", 1], text="a cat"),
            "6": node("BasicGuider", model=MODEL, conditioning=["5", 0]),
            "7": node("KSamplerSelect", sampler_name="euler"),
            "8": node("BasicScheduler", model=MODEL, denoise=1.0, **sampler),
            "10": node(
                "SamplerCustomAdvanced",
                noise=["4", 4],
                guider=["6", 0],
                sampler=["7", 0],
                sigmas=["8", 0],
                latent_image=["3", 0],
            ),
            "11": node("VAEDecode", samples=["10", 0], vae=["9", 2]),
            "12": node(
                "SDImageRewardScore", reward_model=["1", 0], image=["11", 0], prompt="a cat", plain_prompt=True, chunk=8
            ),
            "13": node(
                "SDImageRewardScore", reward_model=["1", 0], image=["4", 2], prompt="a cat", plain_prompt=True, chunk=8
            ),
            "14": see("4", 3),
        }
        run = server.run(graph)
        assert run.status == "execution_success", run.events[-1] if run.status != "execution_error" else run.error
        drawn_again, drawn_there = run.outputs["12"]["scores"], run.outputs["13"]["scores"]
        assert drawn_again == pytest.approx(drawn_there, abs=2e-3)
        assert max(drawn_there) == pytest.approx(run.outputs["14"]["seen"][0], abs=2e-3)
        other = node(empty, width=64, height=64, batch_size=1)
        run = server.run(
            {
                **graph,
                "15": other,
                "10": {**graph["10"], "inputs": {**graph["10"]["inputs"], "latent_image": ["15", 0]}},
            }
        )
        assert run.status == "execution_error"
        assert "connect the same latent" in run.error
        assert base_bits(server, kind) == before
