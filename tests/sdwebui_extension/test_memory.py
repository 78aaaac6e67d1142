"""Where the model is: nothing before the first run, after scoring as the settings say, Unload at any time."""

from __future__ import annotations

import gc
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sd_imagereward.core.scorers.loading import loaded_scorers


@pytest.fixture(autouse=True)
def nothing_loaded() -> None:
    for scorer in loaded_scorers():
        scorer.unload()


def test_nothing_is_loaded_until_the_first_run(host: SimpleNamespace, run: Any) -> None:
    host.panel.Panel(str, repeats=True)
    assert loaded_scorers() == []
    assert host.service.service.state() == "not loaded"
    run()
    assert len(loaded_scorers()) == 1
    assert "ImageReward in RAM" in host.service.service.state()


def test_one_load_serves_many_runs(host: SimpleNamespace, run: Any) -> None:
    run()
    first = loaded_scorers()
    run(sort=True)
    assert loaded_scorers() == first


def test_unload_frees_and_is_harmless_again(host: SimpleNamespace, run: Any) -> None:
    run()
    network = weakref.ref(host.service.service._scorer.network)
    assert host.service.service.unload() is True
    gc.collect()
    assert network() is None
    assert host.service.service.unload() is False
    assert host.service.service.state() == "not loaded"
    run()


def test_after_scoring_unload(host: SimpleNamespace, run: Any) -> None:
    host.shared.opts.data["image_reward_after"] = "Unload"
    assert len(run().images) == 5
    assert loaded_scorers() == []


def test_the_unload_button_waits_for_a_generation(host: SimpleNamespace, run: Any) -> None:
    run()
    with host.call_queue.queue_lock:  # as a generation holds it
        button = threading.Thread(target=host.panel._unload, args=("", 0.0, "ImageReward", False))
        button.start()
        button.join(0.2)
        assert button.is_alive()
        assert len(loaded_scorers()) == 1
    button.join(5)
    assert loaded_scorers() == []


def test_another_scorer_takes_the_place(host: SimpleNamespace, run: Any) -> None:
    run()
    run(scorer="technical")
    assert "Technical" in host.service.service.state()
    run()
    assert "ImageReward" in host.service.service.state()


def test_built_under_inference_mode_it_can_still_be_moved(host: SimpleNamespace, run: Any) -> None:
    with torch.inference_mode():  # as Forge and reForge call
        run()
    for parameter in host.service.service._scorer.network.parameters():
        assert not parameter.is_inference()
    run()


class FullGpu:
    """Stands for a device without room: moving there or scoring there fails as CUDA does."""

    def __init__(self, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, *, at: str) -> None:
        from sd_imagereward.core.scorers.base import Scorer

        self.asked: list[tuple[int, torch.device]] = []
        self.lines: list[str] = []
        host.devices.device = torch.device("meta")
        monkeypatch.setattr(host.service.host, "free_memory", lambda needed, on: self.asked.append((needed, on)))
        monkeypatch.setattr(host.service.host, "log", self.lines.append)
        real_to, real_device = Scorer.to, Scorer.device

        def to(scorer: Scorer, device: Any) -> Scorer:
            scorer.pretended = torch.device(device)  # type: ignore[attr-defined]
            if at == "move" and torch.device(device).type == "meta":
                raise RuntimeError("CUDA out of memory")
            return scorer if torch.device(device).type == "meta" else real_to(scorer, device)

        def device(scorer: Scorer) -> torch.device:
            return getattr(scorer, "pretended", real_device.fget(scorer))  # type: ignore[attr-defined]

        monkeypatch.setattr(Scorer, "to", to)
        monkeypatch.setattr(Scorer, "device", property(device))


@pytest.mark.parametrize("at", ["move", "score"])
def test_short_vram_asks_the_host_then_runs_on_the_cpu(
    host: SimpleNamespace, run: Any, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    expected = run().infotexts
    host.service.service.unload()
    gpu = FullGpu(host, monkeypatch, at=at)
    if at == "score":
        from sd_imagereward.core.scoring import fallback

        score_images = fallback.score_images

        def no_room(scorer: Any, *arguments: Any, **options: Any) -> Any:
            if scorer.device.type == "meta":
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return score_images(scorer, *arguments, **options)

        monkeypatch.setattr(fallback, "score_images", no_room)
    assert run().infotexts == expected
    assert gpu.asked
    assert len([line for line in gpu.lines if "no room" in line]) == 1
    assert "in RAM" in host.service.service.state()
