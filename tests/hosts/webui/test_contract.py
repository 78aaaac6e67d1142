"""Everything that the extension uses of a host is there, or the extension does without it.

The checker itself is tried on a made-up host and a made-up extension, which need no checkout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .contract.__main__ import table
from .contract.behaviours import BEHAVIOURS, COVERED
from .contract.checkout import Checkout
from .contract.compare import HOST_FILE, Row, Verdict, compare, functions_of
from .contract.uses import uses_of

# -- the real ones -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(repository: Path) -> list[Row]:
    path = os.environ.get("SDWEBUI_PATH")
    if not path:
        pytest.skip("set SDWEBUI_PATH to a WebUI's checkout to compare with it what the extension uses")
    return compare(Checkout(Path(path)), repository)


@pytest.mark.host
def test_nothing_that_the_extension_needs_is_missing(rows: list[Row]) -> None:
    missing = [f"{row.label} ({row.why}), used at {row.place}" for row in rows if row.verdict is Verdict.MISSING]
    assert not missing, "\n".join(missing)


@pytest.mark.host
def test_the_table_tells_what_this_host_lacks(rows: list[Row], repository: Path) -> None:
    lacking = {row.label for row in rows if row.verdict is not Verdict.HAS}
    assert lacking <= labels_in_docs(repository), "make the table of docs/hosts.md anew"


def test_the_table_speaks_of_what_is_used(repository: Path) -> None:
    used = {use.label for use in uses_of(repository)} | BEHAVIOURS.keys()
    assert labels_in_docs(repository) <= used, "make the table of docs/hosts.md anew"


def test_what_is_said_to_be_covered_is_used_and_has_its_capability(repository: Path) -> None:
    used = {use.label for use in uses_of(repository)} | BEHAVIOURS.keys()
    assert COVERED.keys() <= used
    assert set(COVERED.values()) <= functions_of(repository / HOST_FILE)


def labels_in_docs(repository: Path) -> set[str]:
    labels = set(re.findall(r"^\| `(.+?)` \|", (repository / "docs" / "hosts.md").read_text("utf-8"), re.MULTILINE))
    assert labels
    return labels


# -- made-up ones --------------------------------------------------------------------------------------------------

HOST = {
    "modules/cmd_args.py": "parser.add_argument('--api-auth', type=str)\nparser.add_argument('--listen')\n",
    "modules/options.py": """
class OptionInfo:
    def __init__(self, default=None, label="", section=None): ...
    def info(self, text): ...
class Options:
    def add_option(self, key, info): ...
""",
    "modules/shared_state.py": """
class State:
    interrupted = False
    def begin(self):
        self.textinfo = None
""",
    "modules/shared.py": """
from modules.options import OptionInfo, Options
state: 'shared_state.State' = None
opts = Options()
opts.data['some'] = 1
cmd_opts = parse()
""",
    "modules/shared_options.py": """
templates = {
    "return_grid": OptionInfo(True, "Grid"),
    "grid_format": OptionInfo("png", "Format").info("of grids"),
}
""",
    "modules/saving.py": "def save_image(image, path, extension='png', *, info=None): ...\n",
    "modules/images.py": "from modules.saving import *\n",
    "modules/scripts.py": """
class Script:
    def title(self): ...
    def process(self, p, *args): ...
    def postprocess(self, p, processed, *args): ...
    def elem_id(self, name): ...
class ScriptRunner:
    def postprocess(self, p, processed):
        for script in self.scripts:
            script.postprocess(p, processed)
    def setup_scripts(self, p):
        for script in self.scripts:
            script.process(p)
            script.title()
""",
    "modules/processing.py": """
from dataclasses import dataclass
@dataclass
class StableDiffusionProcessing:
    seed: int = -1
    def comment(self, text): ...
class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
    enable_hr: bool = False
def process_images(p):
    p.batch_index = 0
    p.scripts.postprocess(p, None)
""",
}
HOST_PY = """
import inspect
from modules import scripts, shared
OPTIONS: dict[str, object] = {"return_grid": True, "grid_format": "png"}
def has_hook(name):
    return hasattr(scripts.Script, name)
def takes(function, parameter):
    return parameter in inspect.signature(function).parameters
def option(key, p=None):
    default = OPTIONS[key]
    return getattr(shared.opts, key, default)
def ends():
    return has_hook("postprocess")
"""
EXTENSION = {
    "host.py": HOST_PY,
    "script.py": """
from modules import images, scripts, shared
class Ours(scripts.Script):
    def title(self): ...
    def process(self, p, *args):
        p.seed, p.batch_index, p.enable_hr
        p.comment("x")
        self.elem_id("y")
    def postprocess(self, p, processed, *args): ...
def save(image):
    images.save_image(image, "folder", info="text")
    shared.state.textinfo = shared.state.interrupted
    return shared.cmd_opts.api_auth, shared.cmd_opts.listen.strip()
""",
    "settings.py": """
from modules import shared
def register():
    def option(key, **more):
        info = shared.OptionInfo(None, key, **more)
        shared.opts.add_option(key, info)
        return info
    option("image_reward_x", section="ours").info("text")
""",
}


Change = tuple[str, str, str]  # file, a text in it, and the text that takes its place
UNCHANGED = ("", "", "")
Judge = Callable[..., dict[str, str]]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """The verdicts by label on what the made-up host lacks, after a change of the host or the extension."""

    def judge(host: Change = UNCHANGED, extension: Change = UNCHANGED) -> dict[str, str]:
        write(tmp_path / "host", HOST, host)
        write(tmp_path / "ours" / "sdwebui_extension", EXTENSION, extension)
        found = compare(Checkout(tmp_path / "host"), tmp_path / "ours")
        return {
            row.label: row.verdict.value
            for row in found
            if row.verdict is not Verdict.HAS and row.label not in BEHAVIOURS
        }

    return judge


def write(folder: Path, files: dict[str, str], change: Change) -> None:
    changed, old, new = change
    for name, text in {**files, changed: files.get(changed, "")}.items():
        if name:
            assert name != changed or old in text
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text.replace(old, new) if name == changed else text, "utf-8")


def test_a_host_that_has_everything(judge: Judge) -> None:
    assert judge() == {}


LACKS = {
    "a name": ("modules/saving.py", "save_image", "keep_image", "images.save_image"),
    "a module": ("modules/saving.py", "def save_image", "def _save_image", "images.save_image"),
    "a keyword": ("modules/saving.py", ", *, info=None", "", "images.save_image(info=)"),
    "a position": ("modules/saving.py", "image, path, extension='png'", "image", "images.save_image(_, _)"),
    "a field of an annotated instance": (
        "modules/shared_state.py",
        "interrupted",
        "stopped",
        "shared.state.interrupted",
    ),
    "what a method stores": ("modules/shared_state.py", "textinfo", "text", "shared.state.textinfo"),
    "a method of a made instance": ("modules/options.py", "add_option", "add", "opts.add_option"),
    "a method of what is given back": ("modules/options.py", "def info", "def tell", "shared.OptionInfo.info"),
    "an argument that is handed on": ("modules/options.py", "section=None", "x=0", "shared.OptionInfo(section=)"),
    "a setting": ("modules/shared_options.py", "return_grid", "show_grid", "opts.return_grid"),
    "a setting that says more": ("modules/shared_options.py", "grid_format", "format", "opts.grid_format"),
    "a flag": ("modules/cmd_args.py", "--api-auth", "--auth", "cmd_opts.api_auth"),
    "a hook": ("modules/scripts.py", "    def process(self, p, *args): ...\n", "", "Script.process"),
    "a call of a hook": ("modules/scripts.py", "script.process(p)", "pass", "Script.process"),
    "a call of its runner": ("modules/processing.py", "p.scripts.postprocess(p, None)", "pass", "Script.postprocess"),
    "a method of the base": ("modules/scripts.py", "def elem_id", "def id_of", "Script.elem_id"),
    "a field of p": ("modules/processing.py", "seed: int", "number: int", "p.seed"),
    "a field of a kind of p": ("modules/processing.py", "enable_hr", "hires", "p.enable_hr"),
    "what the host writes on p": ("modules/processing.py", "p.batch_index", "p.index", "p.batch_index"),
}
ASKED_FOR = {"opts.return_grid", "opts.grid_format", "Script.postprocess"}  # by HOST_PY


@pytest.mark.parametrize("what", LACKS)
def test_what_a_host_lacks_is_found(judge: Judge, what: str) -> None:
    file, old, new, label = LACKS[what]
    found = judge(host=(file, old, new))
    assert found[label] == ("does without" if label in ASKED_FOR else "missing")
    assert all(other.startswith(label) for other in found), "nothing else is found"


QUESTIONS = {
    "hasattr": "from modules import shared\ndef f():\n    return hasattr(shared, 'gone') and shared.gone\n",
    "getattr with a default": "from modules import shared\ndef f():\n    return getattr(shared, 'gone', 1), shared.gone\n",
    "an import inside try": "try:\n    from modules.shared import gone\nexcept ImportError:\n    gone = None\n",
    "a function that takes the name": "from . import host\nfrom modules.scripts import Script\n"
    "def f():\n    return host.has_hook('gone') and Script.gone\n",
    "a function that asks for it": "from . import host\nfrom modules import scripts\n"
    "def f():\n    return host.asks() and scripts.Script.gone\n",
    "the signature": "from . import host\nfrom modules import images\n"
    "def f():\n    if host.takes(images.save_image, 'gone'):\n        images.save_image(gone=1)\n",
    "known_to": "from . import host\nfrom modules import images\n"
    "def f():\n    images.save_image(**host.known_to(images.save_image, gone=1))\n",
}
LABELS = {"the signature": "images.save_image(gone=)", "known_to": "images.save_image(gone=)"}
LABELS |= dict.fromkeys(("a function that takes the name", "a function that asks for it"), "Script.gone")


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_asked_for_is_no_harm(judge: Judge, question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTENSION, "host.py", HOST_PY + "def asks():\n    return hasattr(scripts.Script, 'gone')\n")
    found = judge(extension=("other.py", "", QUESTIONS[question]))
    assert found.pop(LABELS.get(question, "shared.gone")) == "does without"
    assert "missing" not in found.values()


TAKEN_FOR_GRANTED = {
    "an attribute": "from modules import shared\nshared.gone\n",
    "an import": "from modules.shared import gone\n",
    "getattr without a default": "from modules import shared\ngetattr(shared, 'gone')\n",
    "an argument": "from modules import images\nimages.save_image(gone=1)\n",
}


@pytest.mark.parametrize("use", TAKEN_FOR_GRANTED)
def test_what_is_taken_for_granted_is_missing(judge: Judge, use: str) -> None:
    label = "images.save_image(gone=)" if use == "an argument" else "shared.gone"
    assert judge(extension=("other.py", "", TAKEN_FOR_GRANTED[use])) == {label: "missing"}


def test_one_file_asks_for_itself_alone(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTENSION, "asks.py", QUESTIONS["hasattr"])
    assert judge(extension=("other.py", "", TAKEN_FOR_GRANTED["an attribute"])) == {"shared.gone": "missing"}


def test_a_capability_covers_what_is_said_of_it(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = LACKS["a keyword"][:3]
    monkeypatch.setitem(COVERED, "images.save_image(info=)", "ends")
    assert judge(host=lacking) == {"images.save_image(info=)": "does without"}
    monkeypatch.setitem(COVERED, "images.save_image(info=)", "no_such_function")
    assert judge(host=lacking) == {"images.save_image(info=)": "missing"}


DOES = {
    "extra_generation_params: a function is called for its text": (
        "modules/processing.py",
        "def create_infotext(p):\n    return [v() for v in p if callable(v)]\n",
        "def create_infotext(p):\n    return str(p)\n",
    ),
    "save_image: a callback may change the file name": (
        "modules/images.py",
        "def save_image(params):\n    before_image_saved_callback(params)\n    write(params.filename)\n"
        "    image_saved_callback(params)\n",
        "def save_image(params):\n    write(params.filename)\n    before_image_saved_callback(params)\n"
        "    image_saved_callback(params)\n",
    ),
    "generation_info_{tabname}: changes with the gallery": (
        "modules/ui.py",
        "Textbox(elem_id=f'generation_info_{tab}')\n",
        "Textbox(elem_id='info')\n",
    ),
    "X/Y/Z plots share their axes": (
        "scripts/xyz_grid_on.py",
        "from scripts.xyz_grid import axis_options\n",
        "axis_options = []\n",
    ),
    "the API's users are those of --api-auth": (
        "modules/cmd_args.py",
        "parser.add_argument('--api-auth')\n",
        "parser.add_argument('--auth')\n",
    ),
    "scripts are shown on every tab that generates": ("installer.py", "", "control_extensions = ['x']\n"),
}


def test_each_behaviour_has_its_case() -> None:
    assert DOES.keys() == BEHAVIOURS.keys()


@pytest.mark.parametrize("label", DOES)
def test_behaviours_are_told_apart(tmp_path: Path, label: str) -> None:
    file, does, does_not = DOES[label]
    plot = {"scripts/xyz_grid.py": "axis_options = []\n"}
    write(tmp_path / "good", {**plot, file: does}, UNCHANGED)
    write(tmp_path / "bad", {**plot, file: does_not}, UNCHANGED)
    assert BEHAVIOURS[label].why_not(Checkout(tmp_path / "good")) == ""
    assert BEHAVIOURS[label].why_not(Checkout(tmp_path / "bad")) != ""


def test_hosts_that_lack_the_same_share_a_column() -> None:
    has, without = Row(Verdict.HAS, "x"), Row(Verdict.COPES, "x", "", "not found")
    lines = table({"one": [has], "two": [without], "three": [has]}).splitlines()
    assert lines[0] == "|  | one, three | two |"
    assert lines[2] == "| `x` |  | without |"
