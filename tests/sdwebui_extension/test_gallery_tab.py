"""The tab: its folders, the answer that is kept in the settings, and what scoring loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core.gallery.album import Album, Choice
from sd_imagereward.core.pictures.saving import save_image

FOLDERS = {"outdir_txt2img_samples": "outputs/txt2img-images", "outdir_extras_samples": "outputs/extras-images"}
Score = Callable[[Path, str], str]


@pytest.fixture
def data(host: SimpleNamespace, tmp_path: Path) -> Path:
    """The data folder of a fresh install: no folder of outputs exists."""
    host.paths.data_path = str(tmp_path)
    host.shared.config_filename = str(tmp_path / "config.json")
    host.shared.opts.data |= FOLDERS
    return tmp_path


@pytest.fixture
def page(host: SimpleNamespace, data: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the tab hands to the gallery: albums, trust, and `score(folder, title)`."""
    found = SimpleNamespace()

    def build_page(albums: Any, scorers: Any, score: Score, addresses: Any, *, trust: Any, apart: str) -> None:
        found.albums, found.score, found.trust = albums, score, trust

    monkeypatch.setattr(host.gallery_tab, "build_page", build_page)
    host.gallery_tab.tabs()
    return found


def test_the_tab_is_there_on_a_fresh_install(host: SimpleNamespace, data: Path) -> None:
    [(tab, title, name)] = host.gallery_tab.tabs()  # with the whole page in it
    assert (title, name) == ("ImageReward", "image_reward_gallery")
    assert tab is not None
    assert list(data.iterdir()) == []


def test_folders_are_those_of_the_settings(page: SimpleNamespace, data: Path) -> None:
    assert [album.root for album in page.albums] == [data / folder for folder in FOLDERS.values()]


def test_no_tab_where_the_host_has_no_folders(host: SimpleNamespace) -> None:
    assert host.gallery_tab.tabs() == []


def test_the_answer_is_a_setting(page: SimpleNamespace, host: SimpleNamespace, data: Path) -> None:
    assert page.trust.answer() is None
    for answer, saved in ((True, "Use"), (False, "Do not use")):
        page.trust.remember(answer)
        assert page.trust.answer() is answer
        assert json.loads((data / "config.json").read_text())["image_reward_written"] == saved
    host.shared.opts.data["image_reward_written"] = "Ask"
    assert host.gallery_tab.SavedTrust().answer() is None


def test_frozen_settings_keep_the_answer_until_the_host_ends(
    page: SimpleNamespace, host: SimpleNamespace, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.shared.cmd_opts.freeze_settings = True
    page.trust.remember(True)
    assert page.trust.answer() is True
    assert not (data / "config.json").exists()
    assert "image_reward_written is not saved: changing settings is disabled" in capsys.readouterr().out


def test_scores_in_files_are_taken_without_loading_a_model(
    page: SimpleNamespace, host: SimpleNamespace, data: Path
) -> None:
    folder = data / FOLDERS["outdir_txt2img_samples"]
    folder.mkdir(parents=True)
    for name, line in (
        ("a", ", ImageReward: 0.5000"),
        ("b", ", ImageReward: 0.2500"),
        ("rejected/c", ", ImageReward: -1.0"),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        text = f"a fox {name}\nSteps: 1, Seed: 1, Size: 40x40{line}"
        save_image(host.processing.noise(ord(name[-1])), folder / f"{name}.png", parameters=text)
    page.trust.remember(True)
    assert "3 with a score in the file" in page.score(folder, "ImageReward")
    assert host.service.service.state() == "not loaded"
    album: Album = page.albums[0]
    assert [picture.score for picture in album.show(Choice("ImageReward")).pictures] == [0.5, 0.25]
    assert [picture.score for picture in album.show(Choice("ImageReward", apart=True)).pictures] == [-1.0]
    save_image(Image.new("RGB", (40, 40)), folder / "d.png", parameters="a fox\nSteps: 1, Seed: 1, Size: 40x40")
    assert "1 scored, 3 unchanged" in page.score(folder, "ImageReward")
    assert host.service.service.state() != "not loaded"


def test_another_name_of_the_rejected_folder_counts_beside_the_default(host: SimpleNamespace) -> None:
    host.shared.opts.data["image_reward_rejected_folder"] = "weak"
    assert host.settings.rejected_folders() == {"rejected", "weak"}
