"""The accordion beside every script of the dropdown and none, and the door when there are two copies."""

from __future__ import annotations

import runpy
import shutil
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scorers.loading import loaded_scorers
from sd_imagereward.core.scoring.written import written_scores

from .test_generation import files, score_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("scorer", "filter", "threshold", "sort", "keep_best", "plain_prompt")


@pytest.fixture
def companion(host: SimpleNamespace) -> Any:
    companion = host.companion.ImageRewardCompanion()
    companion.args_from, companion.args_to = 1, 2 + len(NAMES)
    return companion


@pytest.fixture
def make(host: SimpleNamespace, companion: Any, tmp_path: Path) -> Any:
    """`make(chosen=script, sort=True)`: what the host has when *Generate* is pressed with the accordion on.

    own: arguments of the script. beside: other always-on scripts.
    """

    def call(chosen: Any = None, enabled: bool = True, own: Any = (), beside: Any = (), **more: Any) -> Any:
        settings = [more.pop(name, None) for name in NAMES]
        arguments = (int(chosen is not None), enabled, *settings, *own)
        return host.processing.processing_for(
            tmp_path, *beside, companion, chosen=chosen, script_args=arguments, **more
        )

    return call


@pytest.fixture
def generate(host: SimpleNamespace, make: Any) -> Any:
    """A run as the host makes it: the script of the dropdown, or else one generation."""

    def call(*args: Any, **more: Any) -> Any:
        p = make(*args, **more)
        processed = p.scripts.run(p, *p.script_args) or host.processing.process_images(p)
        assert host.scripts.errors == [], "\n".join(host.scripts.errors)
        assert not any("ImageReward" in key for key in p.extra_generation_params)
        return processed

    return call


def scores(processed: Any) -> list[float]:
    """Of the images after the grid, in their order."""
    return [score_of(text) for text in processed.infotexts if "ImageReward: " in text]


@pytest.fixture
def plain(generate: Any) -> list[float]:
    """The scores of the four pictures as they come."""
    return scores(generate())


# -- without a script ----------------------------------------------------------------------------------------------


def test_off_nothing_is_scored(generate: Any) -> None:
    processed = generate(enabled=False)
    assert not any("ImageReward" in text for text in processed.infotexts)
    assert processed.comments == ""


def test_on_each_image_has_a_score_and_the_grid_none(generate: Any) -> None:
    grid, *images = generate().infotexts
    assert "ImageReward: " not in grid
    assert len({score_of(text) for text in images}) == 4
    assert not any("Script: " in text for text in images)


def test_filter_sort_and_the_best_as_in_the_script(generate: Any, plain: list[float], tmp_path: Path) -> None:
    before = files(tmp_path / "images")
    threshold = sorted(plain)[1]
    processed = generate(filter=True, threshold=threshold, sort=True, keep_best=2)
    assert scores(processed) == sorted(plain, reverse=True)[:2]
    saved = [file for file in files(tmp_path / "images") if file not in before]
    assert sorted(score_of(read_parameters(file)) for file in saved) == sorted(plain)[2:]
    assert len(processed.images) == 3


def test_upscale_from_the_gallery_replaces_one_image_by_one(
    host: SimpleNamespace, make: Any, plain: list[float]
) -> None:
    for chosen in (None, Matrix(host)):
        p = make(chosen=chosen, filter=True, threshold=99, n_iter=1, batch_size=1)
        p.txt2img_upscale = True
        processed = p.scripts.run(p, *p.script_args) or host.processing.process_images(p)
        assert scores(processed)
        assert processed.images


def test_a_setting_that_cannot_be_is_told_and_costs_no_image(generate: Any) -> None:
    processed = generate(scorer="nobody")
    assert "ImageReward scored nothing: Scorer 'nobody' not found." in processed.comments
    assert len(processed.images) == 5


def test_a_number_that_cannot_be_is_corrected_with_a_word(generate: Any) -> None:
    processed = generate(keep_best=1.5)
    assert "got 1.5: 2 is used" in processed.comments
    assert len(scores(processed)) == 2


def test_the_model_goes_where_the_settings_say(host: SimpleNamespace, generate: Any) -> None:
    host.shared.opts.data["image_reward_after"] = "Unload"
    generate()
    assert loaded_scorers() == []


# -- beside a script -----------------------------------------------------------------------------------------------


class Script:
    """One of the dropdown. Keeps what it was given."""

    args_from = args_to = 0

    def __init__(self, host: SimpleNamespace) -> None:
        self.host = host
        self.given: list[Any] = []

    def title(self) -> str:
        return type(self).__name__

    def process(self, p: Any) -> Any:
        processed = self.host.processing.process_images(p)
        self.given.append(list(processed.images))
        return processed


class Matrix(Script):
    """As Prompt matrix: one generation, laid out by position, a grid in front whose text is that of the first image."""

    def run(self, p: Any) -> Any:
        p.do_not_save_grid = True
        processed = self.process(p)
        processed.images.insert(0, self.host.images.image_grid(processed.images, 2))
        processed.infotexts.insert(0, "the whole\nSteps: 1, Sampler: Euler, Size: 1x1")
        processed.index_of_first_image = 1
        return processed


class Loopback(Script):
    """The first image of each generation goes on to the next."""

    def run(self, p: Any) -> Any:
        made = [self.process(self.next(p, i)) for i in range(4)]
        first = made[0]
        first.images, first.infotexts = [one.images[0] for one in made], [one.infotexts[0] for one in made]
        first.all_seeds = [one.all_seeds[0] for one in made]
        return first

    def next(self, p: Any, i: int) -> Any:
        p.n_iter = p.batch_size = 1
        p.seed = 5 + i
        return p


class Plot(Loopback):
    """As the X/Y/Z plot: each cell with a shallow copy, and grids that have texts, prompts and seeds of their own."""

    def next(self, p: Any, i: int) -> Any:
        return super().next(copy(p), i)

    def run(self, p: Any) -> Any:
        whole = super().run(p)
        whole.images.insert(0, self.host.images.image_grid(whole.images, 2))
        whole.infotexts.insert(0, "the whole\nSteps: 1, Sampler: Euler, Size: 1x1")
        whole.all_seeds.insert(0, whole.all_seeds[0])
        return whole


class Copying(Loopback):
    """Makes processing objects of its own, which know nothing of ours."""

    def next(self, p: Any, i: int) -> Any:
        own = self.host.processing.processing_for(Path(p.outpath_samples).parent, seed=5 + i, n_iter=1, batch_size=1)
        own.scripts, own.script_args = p.scripts, p.script_args
        return own


class Preparing(Script):
    """Changes the settings and leaves the generation to the host."""

    def run(self, p: Any) -> Any:
        p.prompt = "a dog"


@pytest.mark.parametrize("script", [Matrix, Loopback, Plot])
def test_a_script_gets_every_image_where_it_was_and_the_gallery_the_choice(
    host: SimpleNamespace, generate: Any, plain: list[float], tmp_path: Path, script: type[Script]
) -> None:
    shutil.rmtree(tmp_path / "images")
    chosen = script(host)
    threshold = sorted(plain)[1]
    processed = generate(chosen, filter=True, threshold=threshold, sort=True, keep_best=2)
    seeds = [host.processing.noise(5 + i).tobytes() for i in range(4)]
    assert [image.tobytes() for images in chosen.given for image in images] == seeds
    best_first = sorted(plain, reverse=True)
    assert scores(processed) == best_first[:2]
    front = len(processed.images) - 2
    assert front == (0 if script is Loopback else 1)
    expected = [seeds[plain.index(score)] for score in best_first[:2]]
    assert [image.tobytes() for image in processed.images[front:]] == expected
    assert processed.all_seeds[-2:] == [5 + plain.index(score) for score in best_first[:2]]
    saved = [score_of(read_parameters(file)) for file in files(tmp_path / "images")]
    assert sorted(saved) == sorted(best_first[:2])
    if front:
        assert processed.infotexts[0].startswith("the whole")
    assert "4 images scored with ImageReward" in processed.comments
    assert "(image 1)" in processed.comments


def test_masks_follow_their_picture(host: SimpleNamespace, generate: Any, plain: list[float]) -> None:
    host.shared.opts.data["return_mask"] = True
    processed = generate(Matrix(host), sort=True, keep_best=3, mask_for_overlay=Image.new("L", (40, 40), 255))
    pictures, masks = processed.images[1::2], processed.images[2::2]
    best = [5 + plain.index(score) for score in sorted(plain, reverse=True)[:3]]
    assert [image.tobytes() for image in pictures] == [host.processing.noise(seed).tobytes() for seed in best]
    assert [mask.getpixel((0, 0))[0] for mask in masks] == best
    assert scores(processed) == [score for score in sorted(plain, reverse=True)[:3] for _ in range(2)]


def test_a_script_that_leaves_the_generation_to_the_host(
    host: SimpleNamespace, generate: Any, plain: list[float]
) -> None:
    processed = generate(Preparing(host), sort=True)
    assert len(scores(processed)) == 4
    assert scores(processed) == sorted(scores(processed), reverse=True)
    assert processed.infotexts[-1].startswith("a dog")


def test_a_script_whose_generations_are_its_own_loses_no_image(host: SimpleNamespace, generate: Any) -> None:
    chosen = Copying(host)
    processed = generate(chosen, filter=True, threshold=99)
    assert len(scores(processed)) == len(processed.images) == 4
    assert "scored the images and kept all in their order" in processed.comments


def test_all_below_the_grid_stays_and_a_line_says_so(host: SimpleNamespace, generate: Any, tmp_path: Path) -> None:
    processed = generate(Plot(host), filter=True, threshold=99)
    assert len(processed.images) == 1
    assert "No image passed the threshold 99" in processed.comments
    assert "No image passed" in processed.extra_generation_params["ImageReward note"]
    assert processed.all_seeds  # the host reads the first
    assert files(tmp_path / "images") == []


def test_without_a_choice_the_script_has_its_own_way(host: SimpleNamespace, generate: Any) -> None:
    processed = generate(Plot(host))
    assert len(scores(processed)) == 4
    best = scores(processed).index(max(scores(processed)))
    assert f"(image {best + 1})" in processed.comments


def test_a_script_that_fails_leaves_nothing_behind(host: SimpleNamespace, make: Any, companion: Any) -> None:
    class Failing(Script):
        def run(self, p: Any) -> Any:
            raise RuntimeError("out of memory")

    chosen = Failing(host)
    p = make(chosen)
    with pytest.raises(RuntimeError, match="out of memory"):
        p.scripts.run(p, *p.script_args)
    assert p.extra_generation_params == {}
    chosen.run = lambda p: "as ever"  # type: ignore[method-assign]
    assert p.scripts.run(p, *p.script_args) == "as ever"


def test_a_script_is_wrapped_once(host: SimpleNamespace, generate: Any, make: Any) -> None:
    chosen = Loopback(host)
    generate(chosen)
    wrapped = chosen.run
    generate(chosen)
    assert chosen.run is wrapped
    assert scores(generate(chosen, enabled=False)) == []


def test_a_choice_that_fails_costs_no_image(
    host: SimpleNamespace, generate: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host.beside, "_arrange", lambda *_: 1 / 0)
    assert len(generate(Plot(host), sort=True).images) == 5
    assert "could not choose among the images of a script" in capsys.readouterr().out


@pytest.mark.usefixtures("no_weights")
def test_a_missing_model_is_looked_for_once(
    host: SimpleNamespace, generate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    real = host.service.Service._load
    monkeypatch.setattr(host.service.Service, "_load", lambda *args: (tried.append(args[1]), real(*args))[1])
    processed = generate(Plot(host), filter=True)
    assert len(processed.images) == 5
    assert processed.comments.count("could not score") == 1
    assert len(tried) == 1


# -- never both ----------------------------------------------------------------------------------------------------


def test_script_imagereward_goes_before_and_a_line_says_so(host: SimpleNamespace, generate: Any) -> None:
    script = host.script.ImageRewardScript()
    script.args_from, script.args_to = 8, 16
    own = (None, None, None, True, None, None, None, None)
    processed = generate(script, own=own, filter=True, threshold=99)  # the accordion alone would let nothing pass
    assert len(scores(processed)) == 4
    assert scores(processed) == sorted(scores(processed), reverse=True)
    assert processed.comments.count("are both on") == 1
    assert processed.comments.count("scored with") == 1
    assert "are both on" not in generate(script, own=own, enabled=False).comments


def test_a_generation_inside_another_is_left_alone(host: SimpleNamespace, generate: Any) -> None:
    """Extensions that repair a face send each image through a generation of its own, with all scripts."""
    inner: list[Any] = []

    class Detailer(host.scripts.Script):
        def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
            if getattr(p, "inner", False):
                return
            folder = f"{p.outpath_samples}-inner"
            own = host.processing.StableDiffusionProcessing(n_iter=1, batch_size=1, outpath_samples=folder)
            own.inner, own.scripts, own.script_args = True, p.scripts, p.script_args
            p.scripts.call("setup", own)
            inner.append(host.processing.process_images(own))
            pp.image = inner[-1].images[0]

    for chosen in (None, Plot(host)):
        inner.clear()
        processed = generate(chosen, beside=[Detailer()], filter=True, threshold=-99)
        assert len(scores(processed)) == 4
        assert len(inner) == 4
        assert not any("ImageReward" in text for one in inner for text in one.infotexts)


def test_what_comes_after_a_generation_that_failed_is_not_inside_it(host: SimpleNamespace, make: Any) -> None:
    failing = make()
    host.processing._hook(failing, "process", failing)  # and no end
    host.shared.state.time_start = 2.0  # the next press of *Generate*
    assert scores(host.processing.process_images(make()))


def test_a_cell_after_one_that_failed_is_scored(host: SimpleNamespace, generate: Any) -> None:
    class Stumbling(Plot):
        def process(self, p: Any) -> Any:
            if not self.given:
                self.given.append([])
                self.host.processing._hook(copy(p), "process", p)  # it fails before its end, and the plot goes on
            return super().process(p)

    assert len(scores(generate(Stumbling(host)))) == 4


# -- what is written, and brought back -------------------------------------------------------------------------------


def paste(host: SimpleNamespace, text: str) -> Any:
    """The accordion after *Send to txt2img*: whether it is on, and its request."""
    accordion = host.accordion.Accordion(str)
    found = dict(parse_parameters(text).fields)
    values = {component: component.value for component in accordion.inputs}
    for component, read in accordion.infotext_fields():
        value = read(found)
        if value is not None:
            values[component] = value
    enabled, *settings = (values[component] for component in accordion.inputs)
    return enabled, host.request.read_request(*settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"filter": True, "threshold": -99.5, "sort": True},
        {"keep_best": 3, "plain_prompt": False},
        {"scorer": "technical"},
    ],
)
def test_send_to_txt2img_brings_the_accordion_back(
    host: SimpleNamespace, generate: Any, settings: dict[str, Any]
) -> None:
    for chosen in (None, Plot(host)):
        processed = generate(chosen, **settings)
        assert paste(host, processed.infotexts[-1]) == (True, host.request.read_request(**settings))


def test_pictures_of_others_leave_it_and_those_of_the_script_switch_it_off(host: SimpleNamespace, run: Any) -> None:
    accordion = host.accordion.Accordion(str)
    [(enabled, read), *others] = accordion.infotext_fields()
    assert enabled is accordion.enabled
    assert read({"Steps": "20"}) is None
    fields = parse_parameters(run(filter=True, threshold=-99).infotexts[-1]).fields
    assert read(fields) is False
    assert all(field(found) is None for _, field in others for found in (fields, {"Steps": "20"}))


# -- pictures that a script puts together ----------------------------------------------------------------------------


class Upscale(Script):
    """As SD upscale: four unsaved tiles become one picture, which the script saves itself, and a grid beside it."""

    def run(self, p: Any) -> Any:
        p.do_not_save_grid = p.do_not_save_samples = True
        tiles = self.process(p)
        save, whole = self.host.images.save_image, self.host.images.image_grid(tiles.images, 2)
        name, _ = save(whole, p.outpath_samples, "", p.seed, p.prompt, "png", info=tiles.info, p=p)
        save(whole, p.outpath_grids, "grid", p.seed, p.prompt, "png", info=tiles.info, p=p)
        self.file = Path(name)
        self.comments = list(p.comments)
        return tiles


@pytest.mark.parametrize("by_api", [False, True])
def test_pieces_are_left_alone_and_what_they_become_is_scored(
    host: SimpleNamespace, generate: Any, by_api: bool, tmp_path: Path
) -> None:
    upscale = Upscale(host)
    tiles = generate(upscale, prompt="a (cat:1.2)", is_api=by_api, do_not_save_samples=by_api)
    assert [written_scores(text) for text in tiles.infotexts] == [{}] * 4
    with Image.open(upscale.file) as picture:
        [score] = written_scores(picture.info["parameters"]).values()
        expected = host.service.service.score("imagereward", [picture], ["a cat"]).total
    assert score == pytest.approx(float(expected), abs=1e-4)
    assert upscale.comments == [f"{upscale.file.name}: ImageReward: {score:.4f}"]
    [grid] = (tmp_path / "grids").iterdir()
    with Image.open(grid) as picture:
        assert written_scores(picture.info["parameters"]) == {}


class ToExtras(Script):
    """As SD upscale's *Save to Extras folder instead*: without the processing object, under the key of that tab."""

    def run(self, p: Any) -> Any:
        p.do_not_save_grid = p.do_not_save_samples = True
        parts = [self.process(p) for p.seed in (5, 9)]
        self.whole = self.host.images.image_grid([image for images in self.given for image in images], 2)
        self.text = self.save(p, self.whole, parts[0].info)
        self.other = self.save(p, self.whole, "Postprocess upscale by: 4")
        self.comments = list(p.comments)
        return parts[0]

    def save(self, p: Any, image: Any, text: str) -> str:
        folder = str(Path(p.outpath_samples).parent / "extras")
        name, _ = self.host.images.save_image(image, folder, "", info=text, pnginfo_section_name="extras")
        with Image.open(name) as picture:
            return picture.info["extras"]


def test_an_assembled_picture_in_the_folder_of_extras_is_scored(host: SimpleNamespace, generate: Any) -> None:
    upscale = ToExtras(host)
    generate(upscale, prompt="a (cat:1.2)")
    expected = host.service.service.score("imagereward", [upscale.whole], ["a cat"]).total
    assert written_scores(upscale.text) == {"ImageReward": pytest.approx(float(expected), abs=1e-4)}
    score = f"{written_scores(upscale.text)['ImageReward']:.4f}"
    assert [comment.split(": ")[1:] for comment in upscale.comments] == [["ImageReward", score]]
    assert upscale.other == "Postprocess upscale by: 4"  # another picture in that folder


def test_pictures_that_the_caller_wants_no_files_of_are_scored(generate: Any) -> None:
    assert len(scores(generate(is_api=True, do_not_save_samples=True))) == 4


def test_off_an_assembled_picture_is_left_alone(host: SimpleNamespace, generate: Any) -> None:
    upscale = Upscale(host)
    generate(upscale, enabled=False)
    with Image.open(upscale.file) as picture:
        assert written_scores(picture.info["parameters"]) == {}


@pytest.mark.usefixtures("no_weights")
def test_an_assembled_picture_that_cannot_be_scored_is_saved(host: SimpleNamespace, generate: Any) -> None:
    upscale = Upscale(host)
    generate(upscale)
    assert upscale.file.is_file()
    assert "every image is kept" in upscale.comments[0]


# -- the door --------------------------------------------------------------------------------------------------------


def test_a_second_copy_names_both_folders(host: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "copy" / "scripts")
    with pytest.raises(RuntimeError, match="installed twice") as told:
        runpy.run_path(str(tmp_path / "copy" / "scripts" / "image_reward.py"))
    assert str(tmp_path / "copy") in str(told.value)
    assert str(ROOT) in str(told.value)


@pytest.mark.parametrize("sort", [False, True])
def test_an_axis_of_the_plot_counts_and_the_choices_of_the_accordion_do_not(
    host: SimpleNamespace, make: Any, sort: bool
) -> None:
    p = make(sort=sort)
    host.xyz._apply(host.xyz._with_threshold)(p, -99.0, [-99.0])
    processed = host.processing.process_images(p)
    assert (host.companion.AXIS in processed.comments) is sort
    assert len(scores(processed)) == 4
