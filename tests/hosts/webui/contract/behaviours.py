"""What a host must do that no name or signature tells, and what makes up for it where it does not."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from .checkout import Checkout, dotted_parts


@dataclass(frozen=True)
class Behaviour:
    place: str  # the file of ours that relies on it
    why_not: Callable[[Checkout], str]  # "" where the host does it


def _texts_are_called(host: Checkout) -> str:
    found = host.find("modules.processing.create_infotext")
    if found is None or _calls(found.node, "callable"):
        return ""
    return f"{found.place} writes the repr of a function"


def _name_comes_from_the_callback(host: Checkout) -> str:
    found = host.find("modules.images.save_image")
    if found is None:
        return ""
    before, after = (
        [node.lineno for node in _calls(found.node, name)]
        for name in ("before_image_saved_callback", "image_saved_callback")
    )
    names = [node.lineno for node in ast.walk(found.node) if dotted_parts(node) == ["params", "filename"]]
    if not before or not after or not min(before) < min(after):
        return f"{found.place} calls no callback before and after it saves"
    return "" if any(line > min(before) for line in names) else f"{found.place} keeps the name that it had before"


def _plots_share_their_axes(host: Checkout) -> str:
    plots = sorted(file.stem for file in (host.root / "scripts").glob("xyz_grid*.py"))
    lists = {found.place for plot in plots if (found := host.find(f"scripts.{plot}.axis_options"))}
    return f"axes are at {' and '.join(sorted(lists))}" if len(lists) > 1 else ""


def _tells_of_the_gallery(host: Checkout) -> str:
    keywords = (node for module in host.own_modules for node in ast.walk(module.tree) if isinstance(node, ast.keyword))
    found = any(node.arg == "elem_id" and "generation_info_" in ast.unparse(node.value) for node in keywords)
    return "" if found else "no component generation_info_{tabname}"


def _users_of_the_api(host: Checkout) -> str:
    return "the API's users are those of --auth" if "auth" in host.flags else ""


def _every_tab(host: Checkout) -> str:
    listed = host.find("installer.control_extensions")
    return f"the Control tab shows only titles of {listed.place}" if listed else ""


def _calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and dotted_parts(node.func)[-1:] == [name]]


TEXTS = "extra_generation_params: a function is called for its text"
NAME = "save_image: a callback may change the file name"
PLOT = "X/Y/Z plots share their axes"
GALLERY = "generation_info_{tabname}: changes with the gallery"
USERS = "the API's users are those of --api-auth"
TABS = "scripts are shown on every tab that generates"

BEHAVIOURS = {
    TEXTS: Behaviour("sdwebui_extension/job.py", _texts_are_called),
    NAME: Behaviour("sdwebui_extension/saving.py", _name_comes_from_the_callback),
    PLOT: Behaviour("sdwebui_extension/xyz.py", _plots_share_their_axes),
    GALLERY: Behaviour("sdwebui_extension/script.py", _tells_of_the_gallery),
    USERS: Behaviour("sdwebui_extension/api.py", _users_of_the_api),
    TABS: Behaviour("sdwebui_extension/script.py", _every_tab),
}

# What a function of sdwebui_extension/host.py makes up for, besides what it asks for by name.
COVERED = {
    TEXTS: "asks_for_values",
    USERS: "add_route",
    TABS: "offer_on_every_tab",
    "Script.setup": "sets_up_scripts",
    "Script.postprocess_image_after_composite": "last_image_hook",
    "pp.shared": "has_first_pass",
}
