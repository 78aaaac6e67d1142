from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import folder_paths
import numpy as np
import pytest
import torch
from comfy.cli_args import args
from comfy_api.latest import io
from PIL import Image
from run_node import run
from sd_imagereward.comfyui_nodes.file_names import fill_in
from sd_imagereward.comfyui_nodes.nodes.save import SaveScoredImages
from sd_imagereward.comfyui_nodes.scores import Scores
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scoring.written import written_scores

GRAPH = {"3": {"class_type": "KSampler", "inputs": {}}}
WORKFLOW = {"nodes": [], "links": [], "extra": {"note": "größer"}}
HIDDEN = io.HiddenHolder(prompt=GRAPH, extra_pnginfo={"workflow": WORKFLOW})
SCORES = Scores("ImageReward", (0.58123, -1.41324), prompts=("a red cat", "a dog, running"))


def save(image: torch.Tensor, scores: Any = SCORES, **more: Any) -> list[Path]:
    out = run(SaveScoredImages, hidden=HIDDEN, image=image, scores=scores, **more)
    top = Path(folder_paths.get_output_directory())
    return [top / one["subfolder"] / one["filename"] for one in out["ui"]["images"]]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WebP"])
def test_score_prompt_and_workflow_are_in_the_file(pictures: Any, format: str) -> None:
    files = save(pictures(2), format=format)
    assert [file.name.split("_")[0] for file in files] == ["0.5812", "-1.4132"]
    for file, value, prompt in zip(files, (0.5812, -1.4132), SCORES.prompts, strict=True):
        text = read_parameters(file)
        assert written_scores(text) == {"ImageReward": value}
        assert f"ImageReward: {value}" in text.splitlines()[-1]
        parsed = parse_parameters(text)
        assert parsed.prompt == prompt
        assert parsed.fields["Size"] == "56x40"
        assert _workflow(file) == (GRAPH, WORKFLOW)


def _workflow(file: Path) -> tuple[Any, Any]:
    """As ComfyUI's page finds them: text chunks in PNG, `name:json` in EXIF Model and Make elsewhere."""
    with Image.open(file) as image:
        if image.format == "PNG":
            return json.loads(image.info["prompt"]), json.loads(image.info["workflow"])
        exif = image.getexif()
    return json.loads(exif[0x0110].removeprefix("prompt:")), json.loads(exif[0x010F].removeprefix("workflow:"))


def test_the_pixels_are_those_of_comfyuis_save_image(pictures: Any) -> None:
    batch = torch.cat([pictures(1), pictures(1, seed=1)])
    for file, picture in zip(save(batch), batch, strict=True):
        expected = np.clip(255.0 * picture.numpy(), 0, 255).astype(np.uint8)
        assert np.abs(np.asarray(Image.open(file)).astype(int) - expected).max() <= 1
        assert (np.asarray(Image.open(file)) == expected).mean() > 0.999


def test_the_components_of_a_mixture_are_written_too(pictures: Any) -> None:
    mixed = Scores("Mix", (1.5,), {"ImageReward": (1.0,), "Technical": (0.5,)}, ("a cat",))
    (file,) = save(pictures(1), mixed)
    assert "Mix: 1.5000, ImageReward: 1.0000, Technical: 0.5000" in read_parameters(file)
    (file,) = save(pictures(1), mixed, components=False)
    assert read_parameters(file).endswith("Mix: 1.5000")


def test_a_second_run_overwrites_nothing(pictures: Any) -> None:
    assert len({*save(pictures(2)), *save(pictures(2))}) == 4


def test_unequal_sizes_and_comfyuis_own_marks(pictures: Any) -> None:
    files = save([pictures(1, 40, 56), pictures(1, 30, 20)], filename_prefix="a/%width%_%score%")  # type: ignore[arg-type]
    assert [str(file.parent.name) for file in files] == ["a", "a"]
    assert [file.name for file in files] == ["56_0.5812_00001_.png", "20_-1.4132_00001_.png"]


def test_metadata_can_be_switched_off_for_the_whole_server(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(args, "disable_metadata", True)
    for file in save(pictures(2)):
        assert not Image.open(file).info


def test_an_image_without_score_is_saved_without_one(pictures: Any) -> None:
    (file,) = save(pictures(1), Scores("ImageReward", (float("nan"),), prompts=("a cat",)))
    assert read_parameters(file) == "a cat"


def test_parameters_of_another_pack_are_kept(pictures: Any) -> None:
    theirs = "a cat\nSteps: 20, Sampler: Euler, Seed: 1"
    hidden = io.HiddenHolder(prompt=GRAPH, extra_pnginfo={"workflow": WORKFLOW, "parameters": theirs})
    out = run(SaveScoredImages, hidden=hidden, image=pictures(1), scores=Scores("ImageReward", (1.0,)))
    (one,) = out["ui"]["images"]
    file = Path(folder_paths.get_output_directory()) / one["subfolder"] / one["filename"]
    assert read_parameters(file) == f"{theirs}, ImageReward: 1.0000"


def test_unequal_counts(pictures: Any) -> None:
    with pytest.raises(ImageRewardError, match="2 scores for 3 images"):
        save(pictures(3))


def test_interrupt_between_files(pictures: Any) -> None:
    def interrupt(*_: int) -> None:
        model_management.interrupted = True

    comfy.utils.on_update = interrupt
    with pytest.raises(model_management.InterruptProcessingException):
        save(pictures(2))
    assert len(list(Path(folder_paths.get_output_directory()).rglob("*.png"))) == 1


def test_an_image_that_cannot_be_written_costs_no_other(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sd_imagereward.comfyui_nodes import saving

    real = saving.save_image

    def sometimes(picture: Any, path: Path, **more: Any) -> None:
        if path.name.startswith("0.5812"):
            raise OSError(28, "No space left on device")
        real(picture, path, **more)

    monkeypatch.setattr(saving, "save_image", sometimes)
    with pytest.raises(
        ImageRewardError, match=r"1 of 2 images could not be saved, the others are\. image 1: .*No space"
    ):
        save(pictures(2))
    names = [file.name for file in Path(folder_paths.get_output_directory()).rglob("*.png")]
    assert [name.split("_")[0] for name in names] == ["-1.4132"]


FOUR = Scores("ImageReward", (0.5,) * 4)


@pytest.mark.parametrize(
    ("prefix", "folder", "name"),
    [
        ("winners/", "winners", "0.5000"),
        ("ImageReward/", "ImageReward", "0.5000"),
        ("", ".", "0.5000"),
        (".", ".", "0.5000"),
        ("x", ".", "x"),
        ("a/b/c", "a/b", "c"),
        ("x_%score%/%score%", "x_0.5000", "0.5000"),
        ("what? a: b|c", ".", "what_ a_ b_c"),
        ("con", ".", "_con"),
        pytest.param(r"a\b", ".", "a_b", marks=pytest.mark.posix),  # a folder on Windows
        ("y" * 300, ".", "y" * 150),
        ("two\nlines", ".", "two_lines"),
    ],
)
def test_every_prefix_gives_every_image_a_file_of_its_own(
    pictures: Any, monkeypatch: pytest.MonkeyPatch, prefix: str, folder: str, name: str
) -> None:
    """Even where the host's counter stays at 1, as it does for a prefix that is a folder."""
    real = folder_paths.get_save_image_path
    monkeypatch.setattr(folder_paths, "get_save_image_path", lambda *given: (*real(*given)[:2], 1, *real(*given)[3:]))
    batch, top = pictures(4), Path(folder_paths.get_output_directory())
    files = [*save(batch, FOUR, filename_prefix=prefix), *save(batch, FOUR, filename_prefix=prefix)]
    assert files == [top / folder / f"{name}_{number:05}_.png" for number in range(1, 9)]
    for i, file in enumerate(files):
        assert np.abs(np.asarray(Image.open(file)) / 255 - batch[i % 4].numpy()).max() < 0.01
    assert sorted(file for file in top.rglob("*") if file.is_file()) == files


def test_the_marks_of_comfyuis_page_work_without_it(pictures: Any) -> None:
    graph = {
        "3": {"class_type": "KSampler", "inputs": {"seed": 7, "model": ["1", 0]}, "_meta": {"title": "My sampler"}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "a/b: c"}},
    }
    marks = "%batch_num%-%KSampler.seed%-%My sampler.seed%-%CLIPTextEncode.text%-%KSampler.model%-%Nothing.x%"
    top = Path(folder_paths.get_output_directory())
    out = run(
        SaveScoredImages,
        hidden=io.HiddenHolder(prompt=graph),
        image=pictures(2),
        scores=SCORES,
        filename_prefix="%date:yyyy-MM-dd%/" + marks,
    )
    today = f"{datetime.now():%Y-%m-%d}"
    for i, one in enumerate(out["ui"]["images"]):
        assert one["subfolder"] == today
        assert one["filename"] == f"{i}-7-7-a_b_ c-%KSampler.model%-%Nothing.x%_00001_.png"
        assert (top / today / one["filename"]).is_file()


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("yyyy-MM-dd hh-mm-ss", "2026-03-09 05-07-08"),
        ("d.M.yy", "9.3.26"),
        ("yyy h", "yyy 5"),
        ("MMM", "033"),  # as the page: MM, then M
    ],
)
def test_dates_are_those_of_comfyuis_page(form: str, text: str) -> None:
    assert fill_in(f"%date:{form}%", None, datetime(2026, 3, 9, 5, 7, 8)) == text


def test_a_name_for_each_image(pictures: Any) -> None:
    files = save(pictures(2), filename_prefix=["left", "right/%score%"])
    assert [file.name for file in files] == ["left_00001_.png", "-1.4132_00001_.png"]
    with pytest.raises(ImageRewardError, match="3 file names for 2 images"):
        save(pictures(2), filename_prefix=["a", "b", "c"])


def test_the_images_go_on(pictures: Any) -> None:
    batch = pictures(2)
    assert run(SaveScoredImages, hidden=HIDDEN, image=batch, scores=SCORES)["images"][0] is batch


def test_two_servers_on_one_folder_share_the_names(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both counted before either had written."""
    from sd_imagereward.core.pictures import saving

    real, other = saving._converted, []

    def meanwhile(picture: Image.Image, *more: Any) -> Image.Image:
        if not other:
            other.append(Path(folder_paths.get_output_directory()) / "x_00001_.png")
            other[0].write_bytes(b"theirs")
        return real(picture, *more)

    monkeypatch.setattr(saving, "_converted", meanwhile)
    files = save(pictures(2), filename_prefix="x")
    assert [file.name for file in files] == ["x_00002_.png", "x_00003_.png"]
    assert other[0].read_bytes() == b"theirs"
    assert len(list(other[0].parent.iterdir())) == 3


def test_a_prefix_that_leads_out_is_said(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise Exception("**** ERROR: Saving image outside the output folder is not allowed.")

    monkeypatch.setattr(folder_paths, "get_save_image_path", refuse)
    with pytest.raises(ImageRewardError, match=r"No image could be saved\. image 1: .*stays in ComfyUI's out"):
        save(pictures(2), filename_prefix="../x")


def test_a_bypassed_score_is_named_before_anything_runs() -> None:
    """The host gives a linked input as None, and leaves out what is not connected."""
    assert "bypassed" in str(SaveScoredImages.validate_inputs(image=[None]))
    assert SaveScoredImages.validate_inputs(image=[None], scores=[None]) is True
    with pytest.raises(ImageRewardError, match="bypassed"):
        run(SaveScoredImages, image=torch.zeros(1, 8, 8, 3))
