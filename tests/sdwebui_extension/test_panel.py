"""The panel, what Send to txt2img restores, settings, axes, Extras, the door, the installer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.infotext.scores import read_scores
from sd_imagereward.core.pictures.texts import read_parameters
from sd_imagereward.core.scoring.written import written_scores

from .test_generation import files, score_of


def test_every_scorer_of_the_registry_is_offered(host: SimpleNamespace) -> None:
    from sd_imagereward.core.scorers.registry import scorer_infos

    panel = host.panel.Panel(str, repeats=True)
    assert panel.scorer.choices == [info.title for info in scorer_infos().values()]
    assert panel.scorer.value == "ImageReward"
    assert len(set(panel.scorer.choices)) == len(panel.scorer.choices)


def test_defaults_of_the_panel_are_those_of_the_api(host: SimpleNamespace) -> None:
    values = [component.value for component in host.panel.Panel(str, repeats=True).inputs]
    assert host.request.read_request(*values) == host.request.read_request() == host.request.Request()


def test_the_hint_says_what_the_first_run_does(host: SimpleNamespace, no_weights: None) -> None:
    assert "downloads (from THUDM/ImageReward)" in host.panel.hint_html("ImageReward")
    assert "1.8 GB" in host.panel.hint_html("ImageReward")
    assert "needs no model file" in host.panel.hint_html("Technical")


def test_the_hint_says_where_the_model_is(host: SimpleNamespace, run: Any) -> None:
    assert "Not loaded: the next run loads the model" in host.panel.hint_html("ImageReward")
    run()
    assert "Loaded: ImageReward in RAM" in host.panel.hint_html("ImageReward")
    assert "Not loaded: the next run downloads" in host.panel.hint_html("PickScore")
    host.service.service.unload()
    assert "Not loaded: the next run loads the model" in host.panel.hint_html("ImageReward")


def test_the_hint_says_what_the_scores_usually_are(host: SimpleNamespace) -> None:
    assert "Half of all images score above 0, one in six above 1, one in forty above 2." in host.panel.hint_html(
        "ImageReward"
    )
    assert "Roughly half of all images score above 21, one in six above 22.3" in host.panel.hint_html("PickScore")


# -- answers -------------------------------------------------------------------------------------------------------


class Page:
    """The panel as a browser has it: an entry asks the server, and answers come in any order."""

    def __init__(self, panel: Any) -> None:
        self.panel = panel
        self.values = {component: component.value for component in (*panel.inputs, panel.shown, panel.hint)}
        self.values[panel.shown] = panel.shown.value()  # the host calls it when the page is opened
        self.interactive = False

    def ask(self, component: Any) -> Any:
        """The request of a component's change, not yet answered: calling it gives the answer to what was asked."""
        function, inputs, outputs = component.listeners["change"]
        asked = [self.values[one] for one in inputs]
        return lambda: dict(zip(outputs, function(*asked), strict=True))

    def enter(self, component: Any, value: Any) -> Any:
        self.values[component] = value
        return self.ask(component)

    def receive(self, answer: dict[Any, Any]) -> None:
        """Shows an answer; what changed by it asks in turn, until all is quiet."""
        update = answer.pop(self.panel.threshold)
        self.interactive = update["interactive"]
        self.values[self.panel.threshold] = update.get("value", self.values[self.panel.threshold])
        changed = answer[self.panel.shown] != self.values[self.panel.shown]
        self.values.update(answer)
        if changed:
            self.receive(self.ask(self.panel.shown)())

    @property
    def hint(self) -> str:
        return self.values[self.panel.hint]

    @property
    def threshold(self) -> float:
        return self.values[self.panel.threshold]


@pytest.fixture
def page(host: SimpleNamespace) -> Page:
    return Page(host.panel.Panel(str, repeats=True))


def test_the_last_entry_has_the_last_word_in_whatever_order_answers_come(page: Page) -> None:
    titles = ["t", "tech", "Technical", "PickScore"]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        asked = [page.enter(page.panel.scorer, title) for title in titles]
        answers = [ask() for ask in asked]
        for i in order:
            page.receive(dict(answers[i]))
        assert "Which picture users would pick" in page.hint
        assert page.threshold == 21.0
        page.receive(page.enter(page.panel.scorer, "ImageReward")())


def test_the_threshold_follows_a_scorer_that_is_typed_letter_by_letter(page: Page) -> None:
    for end in range(1, len("pickscore") + 1):
        page.receive(page.enter(page.panel.scorer, "pickscore"[:end])())
    assert page.threshold == 21.0


def test_the_threshold_follows_the_scorer_until_it_is_changed_by_hand(page: Page) -> None:
    for title, expected in (("Aesthetic", 5.5), ("PickScore", 21.0), ("mix(imagereward=1, technical=1)", 0.0)):
        page.receive(page.enter(page.panel.scorer, title)())
        assert page.threshold == expected
    page.values[page.panel.threshold] = 0.7
    page.receive(page.enter(page.panel.scorer, "PickScore")())
    assert page.threshold == 0.7


def test_the_threshold_is_greyed_out_while_nothing_uses_it(page: Page) -> None:
    panel = page.panel
    assert panel.threshold.more["interactive"] is False
    for component, on, off in ((panel.filter, True, False), (panel.repeat[0], 3, 0)):
        page.receive(page.enter(component, on)())
        assert page.interactive
        page.receive(page.enter(component, off)())
        assert not page.interactive
    clicks = [page.enter(panel.filter, on) for on in (True, False)]
    for answer in [click() for click in reversed(clicks)]:
        page.receive(answer)
    assert not page.interactive


def test_a_page_that_is_opened_later_shows_what_holds_then(host: SimpleNamespace, run: Any) -> None:
    panel = host.panel.Panel(str, repeats=False)
    before = panel.shown.value()
    panel.filter.value = True  # the host's own defaults
    assert panel.shown.value() != before
    before = panel.shown.value()
    run()
    assert panel.shown.value() != before


def test_the_settings_alone_say_which_scorer_a_panel_begins_with(host: SimpleNamespace) -> None:
    host.shared.opts.data["image_reward_scorer"] = "PickScore"
    panel = host.panel.Panel(str, repeats=False)
    assert (panel.scorer.value, panel.threshold.value) == ("PickScore v1", 21.0)
    assert panel.scorer.do_not_save_to_config
    assert panel.threshold.do_not_save_to_config


def test_the_hint_of_a_mixture_and_of_a_name_half_typed(host: SimpleNamespace, no_weights: None) -> None:
    assert "downloads (from THUDM/ImageReward)" in host.panel.hint_html("mix(imagereward=1, technical=1)")
    assert "not found. Available" in host.panel.hint_html("imagerew")
    assert "expected" in host.panel.hint_html("mix(")


def paste(panel: Any, fields: dict[str, str]) -> dict[Any, Any]:
    """What the host's Send to txt2img puts into each component."""
    found = {}
    for component, key in panel.infotext_fields(lambda found: "ImageReward scorer" in found):
        value = key(fields)
        default = component.value() if callable(component.value) else component.value
        found[component] = default if value is None else type(default)(value)
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"filter": True, "threshold": -0.5, "sort": True},
        {"filter": True, "threshold": 1.25, "keep_best": 3, "plain_prompt": False, "until": 4, "tries": 9},
        {"scorer": "technical"},
        {"scorer": "mix(ImageReward=1, technical=0.5)"},
    ],
)
def test_send_to_txt2img_brings_the_settings_back(host: SimpleNamespace, run: Any, arguments: dict[str, Any]) -> None:
    text = run(**{**arguments, "tries": arguments.get("tries", 2)} if arguments.get("until") else arguments).infotexts
    asked = host.request.read_request(**arguments)
    if not text:
        pairs = {"Script": "ImageReward", **asked.infotext()}
        text = [f"a\nSteps: 1, Sampler: Euler, {', '.join(f'{k}: {v}' for k, v in pairs.items())}"]
    fields = parse_parameters(text[-1]).fields
    assert fields["Script"] == "ImageReward"
    panel = host.panel.Panel(str, repeats=True)
    pasted = paste(panel, fields)
    assert host.request.read_request(*(pasted[component] for component in panel.inputs)) == asked


def test_a_picture_of_another_origin_changes_nothing(host: SimpleNamespace) -> None:
    panel = host.panel.Panel(str, repeats=True)
    fields = dict(panel.infotext_fields(host.panel.is_of_script))
    of_the_accordion = {"ImageReward scorer": "ImageReward"}
    assert all(key(found) is None for key in fields.values() for found in ({"Steps": "20"}, of_the_accordion))
    broken = {"Script": "ImageReward", "ImageReward scorer": "x", "ImageReward until": "many"}
    assert all(fields[component](broken) is None for component in (*panel.repeat, panel.threshold))


def test_a_pasted_threshold_is_not_replaced_by_that_of_the_scorer(page: Page, host: SimpleNamespace) -> None:
    found = {"Script": "ImageReward", "ImageReward scorer": "PickScore", "ImageReward threshold": "0"}
    for component, key in page.panel.infotext_fields(host.panel.is_of_script):
        page.values[component] = key(found)
    page.receive(page.ask(page.panel.scorer)())
    assert page.threshold == 0.0
    assert page.interactive


def test_the_state_follows_a_generation(host: SimpleNamespace) -> None:
    script = host.script.ImageRewardScript()
    inputs = script.ui(False)
    [(elem_id, callback)] = script.on_after_component_elem_id
    assert elem_id == "generation_info_txt2img"
    html_info = sys.modules["gradio"].HTML()
    callback(SimpleNamespace(component=html_info))
    function, asked, answered = html_info.listeners["change"]
    assert len(asked) == 5
    assert inputs[0] in asked
    hint = function('["ImageReward", false, "not loaded", "ImageReward"]', 0.0, "ImageReward", False, 0)[-1]
    assert "Not loaded" in hint
    assert answered[-1] not in inputs


def test_the_accordion_is_closed_at_first_and_silent(host: SimpleNamespace, p: Any) -> None:
    companion = host.companion.ImageRewardCompanion()
    assert companion.show(False) is host.scripts.AlwaysVisible
    enabled, *settings = companion.ui(False)
    assert (enabled.value, enabled.label) == (False, "ImageReward")
    assert host.request.read_request(*(component.value for component in settings)) == host.request.Request()
    assert host.accordion.read_accordion(enabled.value) is None
    assert companion.title() != host.script.ImageRewardScript().title()  # else the API mixes them up
    processed = host.processing.process_images(p)
    assert host.scripts.errors == []
    assert not any("ImageReward" in text for text in processed.infotexts)


def test_settings_have_a_page_and_their_defaults_hold(host: SimpleNamespace) -> None:
    labels = {key: info for key, info in host.shared.opts.data_labels.items() if key.startswith("image_reward_")}
    assert set(labels) == set(host.settings.DEFAULTS)
    assert {info.section for info in labels.values()} == {("image_reward", "ImageReward")}
    for key in labels:
        del host.shared.opts.data[key]
        assert host.settings.get(key) == host.settings.DEFAULTS[key]
    assert labels["image_reward_weights_folder"].restrict_api
    assert labels["image_reward_rejected_folder"].restrict_api


def test_a_default_scorer_that_is_gone_is_no_error(host: SimpleNamespace) -> None:
    host.shared.opts.data["image_reward_scorer"] = "Withdrawn"
    assert host.settings.default_scorer() == "imagereward"
    host.panel.Panel(str, repeats=True)


def test_the_folder_of_the_settings_is_searched(
    host: SimpleNamespace, no_weights: None, run: Any, models: Path
) -> None:
    host.shared.opts.data["image_reward_weights_folder"] = str(models / "ImageReward")
    score_of(run().infotexts[1])


# -- X/Y/Z plot ----------------------------------------------------------------------------------------------------


class AxisOption:
    def __init__(
        self, label: str, type: Any, apply: Any, confirm: Any = None, cost: float = 0.0, choices: Any = None
    ) -> None:
        self.label, self.type, self.apply, self.confirm = label, type, apply, confirm
        self.cost, self.choices = cost, choices


@pytest.fixture
def axes(host: SimpleNamespace) -> dict[str, AxisOption]:
    grid = SimpleNamespace(axis_options=[AxisOption("Nothing", str, None)], AxisOption=AxisOption)
    host.scripts.scripts_data[:] = [SimpleNamespace(path="/webui/scripts/xyz_grid.py", module=grid)]
    host.xyz.register()
    host.xyz.register()  # twice, as after Reload UI with the same module
    assert [axis.label for axis in grid.axis_options] == ["Nothing", "ImageReward threshold", "ImageReward scorer"]
    return {axis.label: axis for axis in grid.axis_options}


def cell(host: SimpleNamespace, p: Any, *applied: tuple[AxisOption, Any]) -> Any:
    """One cell, as the plot makes it: a shallow copy of `p`, each axis applied, then a generation."""
    from copy import copy

    own = copy(p)
    for axis, value in applied:
        axis.apply(own, axis.type(value), [value])
    return host.processing.process_images(own)


def test_xyz_threshold(host: SimpleNamespace, p: Any, axes: dict[str, AxisOption], tmp_path: Path) -> None:
    threshold = axes["ImageReward threshold"]
    everything = cell(host, p, (threshold, "-99"))
    assert len(everything.images) == 5
    scores = [score_of(text) for text in everything.infotexts[1:]]
    some = cell(host, p, (threshold, str(sorted(scores)[2])))
    assert [score_of(text) for text in some.infotexts[1:]] == [s for s in scores if s >= sorted(scores)[2]]
    assert "No image passed the threshold 99" in cell(host, p, (threshold, "99")).infotexts[0]
    assert len(files(tmp_path / "images")) == 6
    assert p.extra_generation_params == {}
    assert not any("ImageReward" in text for text in host.processing.process_images(p).infotexts)
    assert host.scripts.errors == []


def test_xyz_scorer_and_threshold_together(host: SimpleNamespace, p: Any, axes: dict[str, AxisOption]) -> None:
    assert "ImageReward" in axes["ImageReward scorer"].choices()
    title = "Technical"  # needs no weights
    assert title in axes["ImageReward scorer"].choices()
    processed = cell(host, p, (axes["ImageReward scorer"], title), (axes["ImageReward threshold"], "-9999"))
    assert f"ImageReward scorer: {title}" in processed.infotexts[1]
    assert read_scores(processed.infotexts[1], [title])
    assert "ImageReward: " not in processed.infotexts[1]


@pytest.mark.parametrize(
    ("axis", "values", "word"),
    [("scorer", ["Technical", "technicl"], "'technicl' not found"), ("threshold", [0.5, float("nan")], "got nan")],
)
def test_a_plot_with_a_value_that_cannot_be_does_not_begin(
    host: SimpleNamespace, p: Any, axes: dict[str, AxisOption], axis: str, values: list[Any], word: str
) -> None:
    confirm = axes[f"ImageReward {axis}"].confirm
    confirm(p, values[:1])
    with pytest.raises(host.xyz.ImageRewardError, match=word):
        confirm(p, values)


# -- Extras --------------------------------------------------------------------------------------------------------


def extras(host: SimpleNamespace, image: Image.Image, folder: Path, **arguments: Any) -> Path:
    """As the Extras tab does: first pass, a step that resizes, ours, saving."""
    step = host.extras.ImageRewardStep()
    assert step.order > 1000
    pp = host.scripts_postprocessing.PostprocessedImage(image)
    existing = dict(image.info)
    step.process_firstpass(pp, **arguments)
    pp.image = Image.frombytes("RGB", pp.image.size, pp.image.tobytes())  # a step that loses the text
    step.process(pp, **arguments)
    info = ", ".join(f"{key}: {value}" for key, value in pp.info.items())
    name, _ = host.images.save_image(
        pp.image, str(folder), "", info=info, pnginfo_section_name="extras", existing_info=existing
    )
    return Path(name)


def test_extras_scores_existing_files_with_their_own_prompt(
    host: SimpleNamespace, run: Any, p: Any, tmp_path: Path
) -> None:
    p.prompt = "a (castle:1.2) and a river"
    run()
    original = files(tmp_path / "images")[0]
    made = extras(host, Image.open(original), tmp_path / "extras", enable=True, scorer="ImageReward", prompt="other")
    assert written_scores(read_parameters(made)) == written_scores(read_parameters(original))
    assert Image.open(made).info["extras"] == f"ImageReward: {score_of(read_parameters(original)):.4f}"


def test_extras_adds_the_score_to_a_text_without_one(host: SimpleNamespace, tmp_path: Path) -> None:
    image = host.processing.noise(1)
    image.info["parameters"] = "a cat\nSteps: 20, Sampler: Euler, Seed: 1"
    made = extras(host, image, tmp_path, enable=True, scorer="ImageReward", prompt="")
    assert list(parse_parameters(read_parameters(made)).fields) == ["Steps", "Sampler", "Seed", "ImageReward"]


@pytest.mark.parametrize(
    "texts",
    [
        {"parameters": '{"prompt": "a (red:1.2) fox", "base_model": "x", "metadata_scheme": "fooocus"}'},
        {
            "prompt": '{"3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0]}}, '
            '"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox", "clip": ["4", 0]}}}'
        },
    ],
)
def test_extras_reads_the_prompts_of_other_programs(
    host: SimpleNamespace, tmp_path: Path, texts: dict[str, str]
) -> None:
    image = host.processing.noise(1)
    made = []
    for number, (info, prompt) in enumerate(((texts, "other"), ({}, "a red fox"), ({}, "other"))):
        image.info = dict(info)
        made.append(extras(host, image, tmp_path / str(number), enable=True, scorer="ImageReward", prompt=prompt))
    own, same, other = (Image.open(path).info["extras"] for path in made)
    assert own == same != other


def test_extras_scores_no_empty_prompt(host: SimpleNamespace, tmp_path: Path) -> None:
    made = extras(host, host.processing.noise(1), tmp_path, enable=True, scorer="ImageReward", prompt=" ")
    assert "reads the prompt, and this image carries none" in Image.open(made).info["extras"]
    made = extras(host, host.processing.noise(1), tmp_path, enable=True, scorer="technical", prompt="")
    assert "Technical: " in Image.open(made).info["extras"]


def test_extras_off_or_unnamed_does_nothing(host: SimpleNamespace, tmp_path: Path) -> None:
    for enable in (False, None):  # None: the API names only the host's own steps
        made = extras(host, host.processing.noise(1), tmp_path, enable=enable)
        assert Image.open(made).info["extras"] == ""


def test_extras_without_weights_keeps_the_picture(host: SimpleNamespace, no_weights: None, tmp_path: Path) -> None:
    made = extras(host, host.processing.noise(1), tmp_path, enable=True, scorer="ImageReward", prompt="x")
    assert "could not score" in Image.open(made).info["extras"]


# -- the door and the installer --------------------------------------------------------------------------------------


def run_door(repository: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("image_reward.py", repository / "scripts" / "image_reward.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def test_the_door_shows_three_classes_and_no_base(host: SimpleNamespace, repository: Path) -> None:
    bases = (host.scripts.Script, host.scripts_postprocessing.ScriptPostprocessing)
    shown = [v for v in run_door(repository).values() if isinstance(v, type) and issubclass(v, bases)]
    assert sorted(cls.__name__ for cls in shown) == ["ImageRewardCompanion", "ImageRewardScript", "ImageRewardStep"]


def test_reload_ui_keeps_the_model_and_loads_none(host: SimpleNamespace, repository: Path, run: Any) -> None:
    run_door(repository)
    run()
    scorer = host.service.service._scorer
    host.script_callbacks.callbacks.clear()  # as the host does
    again = run_door(repository)
    assert sys.modules["sd_imagereward.sdwebui_extension.service"].service._scorer is scorer
    assert again["ImageRewardScript"] is host.script.ImageRewardScript
    counts = {kind: len(found) for kind, found in host.script_callbacks.callbacks.items()}
    kinds = ("ui_settings", "before_ui", "ui_tabs", "before_image_saved", "image_saved", "app_started")
    assert counts == dict.fromkeys(kinds, 1)


@pytest.fixture
def installer(repository: Path) -> Any:
    spec = importlib.util.spec_from_file_location("image_reward_install", repository / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_install_leaves_this_environment_alone(installer: Any, repository: Path) -> None:
    assert installer.missing(installer.REQUIREMENTS.read_text()) == []
    done = subprocess.run([sys.executable, str(repository / "install.py")], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_install_never_lists_what_the_host_owns(repository: Path) -> None:
    text = (repository / "requirements.txt").read_text()
    assert not any(line.startswith(("torch", "numpy", "Pillow", "transformers")) for line in text.splitlines())


def test_only_what_is_missing_is_installed_and_nothing_upgraded(
    installer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []
    launch = SimpleNamespace(
        args=SimpleNamespace(skip_install=False), run_pip=lambda command, desc: commands.append(command)
    )
    monkeypatch.setitem(sys.modules, "launch", launch)
    wanted = installer.missing("tqdm>=999\nno-such-package-here>=1  # comment\n\n# all comment\n")
    assert wanted == ["no-such-package-here>=1"]  # an old tqdm is the host's business
    installer.install(wanted)
    [command] = commands
    assert "--constraint" in command
    assert "--upgrade" not in command
    launch.args.skip_install = True
    installer.install(wanted)
    assert len(commands) == 1


def test_constraints_hold_every_installed_version(installer: Any) -> None:
    import torch

    assert f"torch=={torch.__version__}" in installer.installed_versions() or any(
        line.startswith("torch==") for line in installer.installed_versions()
    )
