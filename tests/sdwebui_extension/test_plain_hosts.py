"""A host that asks for no values, finishes pictures behind the last hook, keeps the seeds of the first run, sets up no
scripts and restricts no setting, as SD.Next."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from sd_imagereward.core.pictures.texts import read_parameters

from .test_generation import files, score_of


@pytest.fixture(autouse=True)
def plain(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes such a host of the stand-in."""
    processing, images, scripts = host.processing, host.images, host.scripts
    create_infotext, save_image, process = processing.create_infotext, images.save_image, processing.process_images
    hook = processing._hook

    def infotext(
        p: Any,
        prompts: Any = None,
        seeds: Any = None,
        subseeds: Any = None,
        index: int | None = None,
        all_negative_prompts: Any = None,
        grid: str | None = None,
    ) -> str:
        for value in p.extra_generation_params.values():
            assert isinstance(value, str), "its repr would be written"
        negatives = all_negative_prompts
        return str(create_infotext(p, prompts, seeds, subseeds, index=index, all_negative_prompts=negatives))

    def save(
        image: Any,
        path: Any = None,
        basename: str = "",
        seed: Any = None,
        prompt: Any = None,
        extension: str = "png",
        info: Any = None,
        grid: bool = False,
        p: Any = None,
    ) -> Any:
        return save_image(image, path, basename, seed, prompt, extension, info, grid=grid, p=p)

    def one_batch(p: Any, n: int, shown: list[Any], made: list[str]) -> None:
        """One text for each picture; `postprocess_image` is the last hook, then the picture is graded."""
        batch = slice(n * p.batch_size, (n + 1) * p.batch_size)
        p.iteration, p.prompts, p.negative_prompts = n, p.all_prompts[batch], p.all_negative_prompts[batch]
        p.seeds, p.subseeds = p.all_seeds[batch], p.all_subseeds[batch]
        hook(p, "process_batch", p)
        for i, seed in enumerate(p.seeds):
            p.batch_index = i
            if p.save_samples():
                assert "ImageReward: " not in processing.create_infotext(p, p.prompts, p.seeds, p.subseeds, index=i)
            pp = scripts.PostprocessImageArgs(processing.noise(seed + (p.subseeds[i] if p.subseed_strength else 0)))
            hook(p, "postprocess_image", p, pp)
            image = ImageOps.invert(Image.fromarray(np.asarray(pp.image)))  # without `info`
            text = processing.create_infotext(p, p.prompts, p.seeds, p.subseeds, index=i)
            if p.save_samples():
                images.save_image(image, p.outpath_samples, "", seed, p.prompts[i], "png", info=text, p=p)
            image.info["parameters"] = text
            shown.append(image)
            made.append(text)

    def process_images(p: Any) -> Any:
        if p.all_seeds:
            p.seed = p.all_seeds[0]
        return process(p)

    monkeypatch.setattr(processing, "create_infotext", infotext)
    monkeypatch.setattr(processing, "_one_batch", one_batch)
    monkeypatch.setattr(processing, "process_images", process_images)
    monkeypatch.setattr(processing, "_grid", lambda *_: 0)
    monkeypatch.setattr(images, "save_image", save)
    monkeypatch.delattr(scripts.Script, "postprocess_image_after_composite")
    monkeypatch.setattr(scripts.Script, "postprocess_image", lambda *_: None, raising=False)
    monkeypatch.delattr(scripts.ScriptRunner, "setup_scrips")


def shown(processed: Any) -> list[float]:
    return [score_of(text) for text in processed.infotexts[processed.index_of_first_image :]]


def test_texts_and_files_hold_the_plain_score(run: Any, tmp_path: Path) -> None:
    processed = run()
    assert len(set(shown(processed))) == 4
    assert [read_parameters(file) for file in files(tmp_path / "images")] == processed.infotexts[1:]
    assert "ImageReward: " not in processed.infotexts[0]


def test_graded_pictures_move_with_their_texts(run: Any, host: SimpleNamespace) -> None:
    processed = run(sort=True)
    assert shown(processed) == sorted(shown(processed), reverse=True)
    for image, seed, text in zip(processed.images[1:], processed.all_seeds, processed.infotexts[1:], strict=True):
        assert f"Seed: {seed}," in text
        assert image.tobytes() == ImageOps.invert(host.processing.noise(seed)).tobytes()


def test_rejected_pictures_are_neither_shown_nor_saved(run: Any, tmp_path: Path) -> None:
    threshold = sorted(shown(run()))[2]
    before = len(files(tmp_path / "images"))
    processed = run(filter=True, threshold=threshold)
    assert len(shown(processed)) == len(processed.images) - 1 == 2
    assert len(files(tmp_path / "images")) == before + 2


def test_pictures_of_one_seed_are_told_apart_by_the_variation(
    run: Any, p: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    p.subseed_strength = 0.5
    infotext = host.processing.create_infotext

    def with_variation(
        p: Any, prompts: Any, seeds: Any, subseeds: Any, index: int = 0, all_negative_prompts: Any = None
    ) -> str:
        return f"{infotext(p, prompts, seeds, subseeds, index)}, Variation seed: {subseeds[index]}"

    monkeypatch.setattr(host.processing, "create_infotext", with_variation)
    processed = run(sort=True)
    assert len(set(shown(processed))) == 4
    for subseed, text in zip(processed.all_subseeds, processed.infotexts[1:], strict=True):
        assert text.endswith(f"Variation seed: {subseed}")


def test_each_try_makes_other_pictures(run: Any, p: Any) -> None:
    processed = run(threshold=99, until=1, tries=3)
    assert processed.all_seeds == list(range(5, 17))
    assert p.seed == 5
    assert p.all_seeds == [5, 6, 7, 8]


def test_nothing_made_is_the_hosts_to_tell(run: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.processing, "process_images", lambda p: None)
    assert run(sort=True) is None


def test_a_text_that_an_interrupted_host_replaced_is_read_from_the_image(
    run: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    process_images = host.processing.process_images

    def interrupted(p: Any) -> Any:
        processed = process_images(p)
        processed.infotexts = ["of the whole run"] * len(processed.images)
        return processed

    monkeypatch.setattr(host.processing, "process_images", interrupted)
    texts = run(sort=True).infotexts[1:]  # after the grid's
    assert ["ImageReward: " in text for text in texts] == [True] * 4


def test_a_copy_for_the_cell_of_a_plot_has_a_run_of_its_own(run: Any, p: Any, host: SimpleNamespace) -> None:
    """And the plot, which the host then takes for the pictures of `p`, is none to be scored or rejected."""
    companion = p.scripts.alwayson_scripts[0]
    process_images, cells = host.processing.process_images, []

    def plot(p: Any) -> Any:
        p.xyz = True
        cell = copy.copy(p)
        cells.append(process_images(cell))
        vars(p).update({name: getattr(cell, name) for name in host.rounds.LISTS})
        companion.process(p)
        pp = host.scripts.PostprocessImageArgs(Image.new("RGB", (80, 40)))
        companion.postprocess_image(p, pp)
        return host.processing.Processed(p, [pp.image], 5, "the plot", 0, ["the plot"])

    host.processing.process_images = plot
    try:
        processed = run(filter=True, threshold=99)
    finally:
        host.processing.process_images = process_images
    assert [image.size for image in processed.images] == [(80, 40)]
    assert processed.infotexts == ["the plot"]
    assert "No image passed" in cells[0].info
    assert cells[0].infotexts == [cells[0].info]  # of the picture that says so in the plot


@pytest.mark.parametrize("chosen", [0, 1])
def test_only_a_chosen_script_makes_pieces(host: SimpleNamespace, p: Any, chosen: int) -> None:
    """The host says nothing of what a caller of the API wants saved."""
    companion = p.scripts.alwayson_scripts[0]
    companion.args_from, companion.args_to = 1, 2
    p.do_not_save_samples = True
    p.script_args = [chosen, True]
    p.scripts.selectable_scripts = [host.script.ImageRewardScript()]
    processed = host.processing.process_images(p)
    assert ["ImageReward: " in text for text in processed.infotexts[-4:]] == [not chosen] * 4


def test_no_setting_names_a_folder_that_callers_of_the_api_could_set(
    host: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OptionInfo(host.shared.OptionInfo):  # type: ignore[misc, name-defined]
        def __init__(
            self, default: Any = None, label: str = "", *args: Any, section: Any = None, **kwargs: Any
        ) -> None:
            super().__init__(default, label, section=section)

    monkeypatch.setattr(host.shared, "OptionInfo", OptionInfo)
    host.shared.opts.data_labels.clear()
    host.settings.register()
    assert "image_reward_weights_folder" not in host.shared.opts.data_labels
    host.shared.opts.data["image_reward_weights_folder"] = str(tmp_path)
    from sd_imagereward.core.weights.locate import search_folders
    from sd_imagereward.sdwebui_extension.folders import add_weights_folders

    add_weights_folders()
    assert tmp_path not in search_folders()


def test_a_list_of_scripts_for_a_tab_gets_ours_once(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    installer = ModuleType("installer")
    installer.control_extensions = ["NudeNet"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "installer", installer)
    for _ in range(2):
        host.callbacks.register()
    titles = [script().title() for script in (host.script.ImageRewardScript, host.companion.ImageRewardCompanion)]
    assert installer.control_extensions == ["NudeNet", *titles]  # type: ignore[attr-defined]


def test_extras_read_the_prompt_when_they_score(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(host.scripts_postprocessing.ScriptPostprocessing, "process_firstpass")
    pp = host.scripts_postprocessing.PostprocessedImage(host.processing.noise(1))
    pp.image.info["parameters"] = "a cat\nSteps: 1, Sampler: Euler, Seed: 1, Size: 40x40"
    del pp.shared
    host.extras.ImageRewardStep().process(pp, enable=True, scorer="ImageReward", prompt="")
    assert "ImageReward" in pp.info


@pytest.mark.parametrize(("base", "folder"), [("", "outputs/text"), ("base", "base/outputs/text")])
def test_folders_below_a_common_one(
    host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, base: str, folder: str
) -> None:
    join: Callable[[str, str], str] = lambda base, one: str(Path(base) / one) if one else base  # noqa: E731
    monkeypatch.setattr(host.paths, "resolve_output_path", join, raising=False)
    monkeypatch.setattr(host.paths, "data_path", "/data")
    host.shared.opts.data |= {"outdir_samples": base, "outdir_txt2img_samples": "outputs/text"}
    assert Path("/data") / folder in host.host.output_folders()


@pytest.mark.parametrize("script", ["script.ImageRewardScript", "companion.ImageRewardCompanion"])
def test_what_functions_paste_is_an_update(host: SimpleNamespace, script: str) -> None:
    """The host fails with anything else, and pastes nothing at all then."""
    module, name = script.split(".")
    made = getattr(getattr(host, module), name)()
    made.ui(False)
    found = {"ImageReward scorer": "ImageReward", "ImageReward sort": "True", "ImageReward until": "2 in 3"}
    for _, key in made.infotext_fields or []:
        if not isinstance(key, str):
            value = key(found)
            assert value is None or set(value) == {"value"}
            assert key({}) is None
