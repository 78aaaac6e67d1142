"""If scoring fails, every image is saved as without the script, and one message says what to do."""

from __future__ import annotations

import importlib
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .test_generation import files


def check_nothing_lost(processed: Any, folder: Path) -> None:
    assert len(processed.images) == 5
    assert len(files(folder / "images")) == 4
    assert not any("ImageReward: " in text for text in processed.infotexts)


HARSH = {"filter": True, "threshold": 99, "keep_best": 1, "sort": True, "until": 3}


def test_no_weights_and_no_network(no_weights: None, run: Any, tmp_path: Path, host: SimpleNamespace) -> None:
    processed = run(**HARSH)
    check_nothing_lost(processed, tmp_path)
    assert processed.comments.count("could not score") == 1
    for word in ("ImageReward.pt", "THUDM/ImageReward", "models"):
        assert word in processed.comments
    assert processed.extra_generation_params["ImageReward note"] in processed.comments
    assert host.service.service.state() == "not loaded"


def test_missing_weights_are_looked_for_once_a_run(
    no_weights: None, run: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    real = host.service.load_scorer
    monkeypatch.setattr(host.service, "load_scorer", lambda name, **more: loads.append(name) or real(name, **more))
    run()
    assert loads == ["imagereward"]


def test_a_damaged_checkpoint(no_weights: None, run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "ImageReward"
    folder.mkdir(parents=True)
    (folder / "ImageReward.pt").write_bytes(b"not a checkpoint")
    processed = run(**HARSH)
    check_nothing_lost(processed, tmp_path)
    assert "ImageReward.pt" in processed.comments
    assert (folder / "ImageReward.pt").read_bytes() == b"not a checkpoint"  # neither renamed nor altered


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ValueError("odd"), MemoryError(), KeyError("x")])
def test_any_error_while_scoring(
    run: Any, tmp_path: Path, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(host.service.Service, "score", fail)
    processed = run(**HARSH)
    check_nothing_lost(processed, tmp_path)
    assert processed.comments.count("could not score") == 1


def test_one_image_that_fails_is_kept_among_the_others(
    run: Any, p: Any, tmp_path: Path, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = host.service.Service.score
    calls: list[int] = []

    def sometimes(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("just this one")
        return real(self, *arguments)

    monkeypatch.setattr(host.service.Service, "score", sometimes)
    processed = run(filter=True, threshold=99)
    assert len(processed.images) == 1
    assert "Seed: 6" in processed.infotexts[0]
    assert len(files(tmp_path / "images")) == 1


def test_an_interrupted_download(host: SimpleNamespace) -> None:
    from sd_imagereward.core.errors import DownloadFailed

    host.service._show_download(10, 100)
    assert "10%" in host.shared.state.textinfo
    host.shared.state.interrupted = True
    with pytest.raises(DownloadFailed):
        host.service._show_download(20, 100)


def test_an_error_of_the_host_passes_through_and_leaves_no_trace(run: Any, p: Any, host: SimpleNamespace) -> None:
    p.n_iter = "many"
    with pytest.raises(TypeError):
        run(sort=True)
    assert p.extra_generation_params == {}
    assert p.do_not_save_grid is False


def test_a_line_for_the_console_cannot_fail(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """`log` stands in the WebUI's own except clauses, and a console of Windows lacks most characters."""
    log = importlib.import_module("sd_imagereward.sdwebui_extension.host").log
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="cp1252", newline="\n"))
    log("cannot read 雪狐\x1b[2J.png")
    sys.stdout.flush()
    assert raw.getvalue() == b"[ImageReward] cannot read \\u96ea\\u72d0\\u001b[2J.png\n"
    monkeypatch.setattr("sys.stdout", None)  # pythonw
    log("nobody reads this")
