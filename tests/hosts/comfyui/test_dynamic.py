"""Training and ReNO under dynamic VRAM: the same to the bit as on a host without it, and everything as before afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hosts.comfyui.conftest import furnish, started
from hosts.comfyui.graphs import Graph, node
from hosts.comfyui.process import run_script
from hosts.comfyui.server import Server
from hosts.comfyui.test_refl import MODEL, TRAIN, TUNED, base_bits, bits, checkpoint, drawn, rewards, training

SCENES = (
    "room for all",
    "room for a seventh",
    "half file",
    "half file, room for a seventh",
    "lora",
    "interrupt",
    "two runs",
    "sdxl",
    "flux",
    "noise",
    "noise, flux",
)
NARROW = [name for name in SCENES if name not in ("room for all", "half file", "noise, flux")]
Found = dict[str, dict[str, Any]]


def expect_dynamic_vram(comfyui: Path) -> None:
    if "disable_dynamic" not in (comfyui / "comfy" / "model_patcher.py").read_text("utf-8"):
        pytest.skip("this ComfyUI has no dynamic VRAM, or only the first experiment with it")


@pytest.fixture(scope="module")
def ways(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Found]:
    """What came of each scene on a host without dynamic VRAM, and on one with it; a process for each."""
    expect_dynamic_vram(comfyui)

    def run(way: str) -> subprocess.CompletedProcess[str]:
        return run_script(comfyui, "check_dynamic.py", str(comfyui), str(folders[way]), way)

    folders = {way: tmp_path_factory.mktemp(way) for way in ("plain", "dynamic")}
    with ThreadPoolExecutor() as pool:
        plain, dynamic = pool.map(run, folders)
    return _rows(plain), _rows(dynamic)


def _rows(result: subprocess.CompletedProcess[str]) -> Found:
    assert result.returncode == 0, result.stderr[-3000:]
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {row["scene"]: row for row in rows}


class TestOnTheSamePatchers:
    @pytest.mark.parametrize("scene", SCENES)
    def test_what_is_learnt_is_the_same_to_the_bit(self, ways: tuple[Found, Found], scene: str) -> None:
        """Loss, reward and norm of the gradient of each update, the LoRA, the pictures; the improved noise."""
        plain, dynamic = (way[scene] for way in ways)
        assert dynamic["learnt"] == plain["learnt"]
        assert dynamic["learnt"]
        assert dynamic["picture"] == plain["picture"]  # drawn by the MODEL before, on pages

    @pytest.mark.parametrize("scene", SCENES)
    def test_model_clip_and_vae_are_as_they_were(self, ways: tuple[Found, Found], scene: str) -> None:
        for way in ways:
            assert way[scene]["untouched"]
            assert way[scene]["draws the same"]

    @pytest.mark.parametrize("scene", SCENES)
    def test_the_copies_are_used_and_gone_afterwards(self, ways: tuple[Found, Found], scene: str) -> None:
        plain, dynamic = (way[scene] for way in ways)
        assert plain["copies"] == 0
        assert dynamic["copies"] == (4 if scene == "two runs" else 2)
        assert dynamic["copies alive"] == 0
        assert dynamic["strangers"] == 0  # in the host's list of loaded models

    @pytest.mark.parametrize("scene", NARROW)
    def test_pages_leave_meanwhile(self, ways: tuple[Found, Found], scene: str) -> None:
        assert ways[1][scene]["pages left"] > 1

    @pytest.mark.parametrize("scene", SCENES)
    def test_the_hosts_switch_is_on_during_the_run_alone(self, ways: tuple[Found, Found], scene: str) -> None:
        for way in ways:
            assert way[scene]["in training"] == [[True], False]


@pytest.fixture(scope="module")
def dynamic(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server under dynamic VRAM, with little room for pages."""
    expect_dynamic_vram(comfyui)
    base = furnish(tmp_path_factory.mktemp("dynamic"), "sd-imagereward")
    with started(comfyui, base, TINY_GPU_BYTES="2000000", TINY_GPU_STATE="DYNAMIC") as server:
        yield server


class TestInTheServer:
    def test_the_lora_draws_on_pages_what_the_output_draws(self, dynamic: Server) -> None:
        before = base_bits(dynamic)
        run = dynamic.run({**training(dynamic, file_name="paged", steps=5), **drawn(TUNED)})
        rewards(run)
        assert bits(run, "55") != before[3]
        assert base_bits(dynamic) == before
        lora = node("LoraLoaderModelOnly", model=MODEL, lora_name="paged.safetensors", strength_model=1.0)
        loaded: Graph = {"9": checkpoint(), "20": lora, **drawn(["20", 0])}
        assert bits(dynamic.run(loaded), "55") == bits(run, "55")
        assert "dynamic VRAM loading" in dynamic.log()

    def test_a_loader_that_cannot_load_again_is_told_which_can(self, dynamic: Server) -> None:
        graph = training(dynamic, file_name="no way back")
        graph["9"]["inputs"]["again"] = False
        run = dynamic.run(graph)
        assert run.status == "execution_error"
        assert "load it with 'Load Checkpoint' or 'Load Diffusion Model'" in run.error

    def test_a_lora_in_bypass_mode_is_refused(self, dynamic: Server) -> None:
        first = dynamic.run(training(dynamic, file_name="first", steps=1))
        rewards(first)
        bypass = node("LoraModelLoader", model=MODEL, lora=[TRAIN, 1], strength_model=1.0, bypass=True)
        graph = {**training(dynamic, file_name="first", steps=1), "20": bypass}
        second = {**training(dynamic, file_name="second", model=["20", 0])[TRAIN]}
        run = dynamic.run({**graph, "30": second})
        assert run.status == "execution_error"
        assert "switch 'bypass' off" in run.error
