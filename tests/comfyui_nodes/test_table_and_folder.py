from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from damage import exif
from PIL import Image
from run_node import run
from sd_imagereward.comfyui_nodes.nodes import score_table
from sd_imagereward.comfyui_nodes.nodes.load_folder import LoadImageFolder
from sd_imagereward.comfyui_nodes.nodes.score_table import ScoreTable
from sd_imagereward.comfyui_nodes.scores import Scores
from sd_imagereward.core.errors import ImageRewardError


class TestScoreTable:
    def test_draws_and_shows_a_chart(self) -> None:
        out = run(ScoreTable, scores=Scores("ImageReward", (0.5, -1.0, float("nan"))))
        assert out["chart"].ndim == 4
        assert out["chart"].shape[3] == 3
        assert float(out["chart"].min()) < 0.3  # ink
        (shown,) = out["ui"]["images"]
        assert (Path(folder_paths.get_temp_directory()) / shown["filename"]).is_file()

    def test_two_rows_and_components_take_more_room(self) -> None:
        one = Scores("ImageReward", (0.5, -1.0))
        mixed = Scores("Mix", (0.5, -1.0), {"a": (1.0, 2.0), "b": (0.0, 1.0)})
        heights = [
            run(ScoreTable, scores=one)["chart"].shape[1],
            run(ScoreTable, scores=one, compare_with=one, compare_label="other")["chart"].shape[1],
            run(ScoreTable, scores=mixed, components=True)["chart"].shape[1],
        ]
        assert heights == sorted(set(heights))
        assert run(ScoreTable, scores=mixed)["chart"].shape[1] == heights[0]

    def test_is_sorted_named_and_at_most_a_screen_high(self, drawn: list[Any]) -> None:
        run(
            ScoreTable,
            scores=[0.5, float("nan"), 2.0, float("inf")],
            names=["a", "b", "c", "d"],
            compare_with=[1.0, 2.0],
        )
        title, rows, (first, second) = drawn[-1]
        assert (title, rows) == ("", ["d", "c", "a", "b"])
        assert first.values[:3] == [float("inf"), 2.0, 0.5]
        assert second.values[2:] == [1.0, 2.0]
        many = run(ScoreTable, scores=[float(i) for i in range(500)])["chart"]
        title, rows, (first,) = drawn[-1]
        assert rows[:2] == ["image 499", "image 498"]
        assert title == f"The first {len(rows)} of 500, best first"
        assert len(first.values) == 500  # best and mean are those of all
        assert 800 < many.shape[1] <= 950
        mixed = Scores("Mix", (1.0,) * 64, {f"part {i}": (1.0,) * 64 for i in range(8)})
        assert run(ScoreTable, scores=mixed, components=True)["chart"].shape[1] <= 950

    def test_scores_bring_their_names(self, drawn: list[Any]) -> None:
        scores = Scores("ImageReward", (0.5, 2.0), names=("cat", "dog"))
        run(ScoreTable, scores=scores)
        assert drawn[-1][1] == ["dog", "cat"]
        run(ScoreTable, scores=[scores, scores.take([1])])
        assert drawn[-1][1] == ["dog", "dog", "cat"]
        run(ScoreTable, scores=scores, names=["x", "y"])
        assert drawn[-1][1] == ["y", "x"]

    @pytest.fixture
    def drawn(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """Title, rows and series of each chart."""
        real, calls = score_table.bar_chart, []

        def watched(title: str, rows: list[str], series: list[Any], **more: Any) -> Any:
            calls.append((title, rows, series))
            return real(title, rows, series, **more)

        monkeypatch.setattr(score_table, "bar_chart", watched)
        return calls

    @pytest.mark.parametrize("scores", [[], ["a text"], [None]])
    def test_a_bypassed_score_is_named(self, scores: list[Any]) -> None:
        with pytest.raises(ImageRewardError, match=r"bypassed or muted.*Ctrl\+B"):
            run(ScoreTable, scores=scores)

    def test_takes_plain_numbers(self) -> None:
        assert run(ScoreTable, scores=[1.0, 2.0])["chart"].shape[0] == 1


class TestLoadImageFolder:
    @pytest.fixture
    def folder(self) -> Path:
        place = Path(folder_paths.get_input_directory()) / "set"
        place.mkdir()
        for i, size in enumerate([(30, 20), (10, 40)]):
            Image.new("RGB", size, (255 * i, 0, 0)).save(place / f"{i}.png")
        (place / "notes.txt").write_text("no image")
        return place

    def test_each_in_its_own_size_sorted_by_name(self, folder: Path) -> None:
        out = run(LoadImageFolder, folder="set")
        assert [tuple(image.shape) for image in out["images"]] == [(1, 20, 30, 3), (1, 40, 10, 3)]
        assert out["images"][1][0, 0, 0].tolist() == [1.0, 0.0, 0.0]
        assert out["names"] == ["0", "1"]

    def test_a_photograph_stands_upright(self, folder: Path) -> None:
        red = Image.new("RGB", (32, 16), (255, 0, 0))
        red.paste((0, 0, 255), (0, 0, 16, 16))
        red.save(folder / "2.jfif", "JPEG", exif=exif(6))
        image = run(LoadImageFolder, folder="set")["images"][2]
        assert tuple(image.shape) == (1, 32, 16, 3)
        assert image[0, 4, 8, 2] > 0.9  # the left side is on top
        assert image[0, 28, 8, 0] > 0.9

    def test_a_broken_file_is_left_out_and_named(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folder / "broken.png").write_bytes(b"\x89PNG nothing")
        with caplog.at_level(logging.WARNING):
            assert run(LoadImageFolder, folder="set")["names"] == ["0", "1"]
        assert "broken.png" in caplog.text

    def test_an_empty_folder_is_said(self, folder: Path) -> None:
        (folder.parent / "empty").mkdir()
        with pytest.raises(ImageRewardError, match="No readable image"):
            run(LoadImageFolder, folder="empty")

    @pytest.mark.parametrize("name", ["../..", "set/../..", "/", "gone", "link", "0.png"])
    def test_folders_outside_are_refused(self, folder: Path, base: Path, name: str) -> None:
        Image.new("RGB", (5, 5)).save(base / "secret.png")
        (folder.parent / "link").symlink_to(base)
        with pytest.raises(ImageRewardError, match=r"not found below ComfyUI's input folder\. Press R"):
            run(LoadImageFolder, folder=name)

    def test_a_linked_file_outside_is_left_out(self, folder: Path, base: Path) -> None:
        Image.new("RGB", (5, 5)).save(base / "secret.png")
        (folder / "2.png").symlink_to(base / "secret.png")
        assert run(LoadImageFolder, folder="set")["names"] == ["0", "1"]

    def test_changes_are_noticed(self, folder: Path) -> None:
        before = LoadImageFolder.fingerprint_inputs("set")
        assert LoadImageFolder.fingerprint_inputs("set") == before
        Image.new("RGB", (5, 5)).save(folder / "2.png")
        assert LoadImageFolder.fingerprint_inputs("set") != before


def test_fingerprints_tell_images_apart(pictures: Any) -> None:
    from sd_imagereward.comfyui_nodes.fingerprint import fingerprint

    image = pictures(1, 300, 400)[0]
    assert fingerprint(image) == fingerprint(image.permute(2, 0, 1).contiguous().permute(1, 2, 0))
    assert fingerprint(image) != fingerprint(image.permute(1, 0, 2))
    assert fingerprint(image) != fingerprint(image.half())
    for place in ((0, 0, 0), (299, 399, 2), (150, 7, 1)):
        other = image.clone()
        other[place] = torch.nextafter(other[place], torch.tensor(2.0))
        assert fingerprint(other) != fingerprint(image)
