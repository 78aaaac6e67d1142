"""One verdict for each thing that the extension uses: the host has it, does without by our code, or lacks it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .behaviours import BEHAVIOURS, COVERED
from .checkout import Checkout, Found, why_not
from .uses import FLAGS, PROCESSING, SCRIPT, SETTINGS, STEP, Use, uses_of

HOST_FILE = "sdwebui_extension/host.py"
RUNNERS = {SCRIPT: "modules.scripts.ScriptRunner", STEP: "modules.scripts_postprocessing.ScriptPostprocessingRunner"}


class Verdict(Enum):
    HAS = "has it"
    COPES = "does without"  # the host lacks it, and our code asks before it uses it
    MISSING = "missing"


@dataclass(frozen=True)
class Row:
    verdict: Verdict
    label: str
    place: str = ""  # in our code: where it is asked for, or where a host without it fails
    why: str = ""  # of the host


def compare(host: Checkout, repository: Path) -> list[Row]:
    """Rows by label. What is missing is no harm if every file of ours that uses it asks, or a capability of ours covers it."""
    by_label: dict[str, list[Use]] = {}
    for use in uses_of(repository):
        by_label.setdefault(use.label, []).append(use)
    capabilities = functions_of(repository / HOST_FILE)
    rows = []
    for uses in by_label.values():
        why = next(filter(None, (_why_missing(host, use) for use in uses)), "")
        rows.append(_row(uses, why, capabilities))
    for label, behaviour in BEHAVIOURS.items():
        rows.append(_covered(label, behaviour.place, behaviour.why_not(host), capabilities))
    return sorted(rows, key=lambda row: row.label)


def _row(uses: list[Use], why: str, capabilities: set[str]) -> Row:
    label = uses[0].label
    asked = sorted((use.place for use in uses if use.asked), key=lambda place: HOST_FILE not in place)
    asking = {use.file for use in uses if use.asked}
    unasked = [use.place for use in uses if use.file not in asking and not (use.hook and asking)]
    if why and (unasked or not asked):
        return _covered(label, unasked[0], why, capabilities)
    return Row(Verdict.COPES, label, asked[0], why) if why else Row(Verdict.HAS, label)


def _covered(label: str, place: str, why: str, capabilities: set[str]) -> Row:
    if not why:
        return Row(Verdict.HAS, label)
    if COVERED.get(label) in capabilities:
        return Row(Verdict.COPES, label, f"{HOST_FILE}:{COVERED[label]}", why)
    return Row(Verdict.MISSING, label, place, why)


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _why_missing(host: Checkout, use: Use) -> str:
    """ "" where the host has it."""
    path = use.paths[0]
    if path.startswith(f"{FLAGS}."):
        return "" if _behind(path, FLAGS) in host.flags else "no such flag"
    if path.startswith(f"{SETTINGS}.") and host.find(path) is None:
        return "" if _behind(path, SETTINGS) in host.settings else "no such setting"
    if path.startswith(f"{PROCESSING[0]}.") and _behind(path, PROCESSING[0]) in host.stored_on_p:
        return ""
    owner = next((found for path in use.paths if (found := host.find(path)) is not None), None)
    if owner is None:
        return "" if any(map(host.is_beyond_reading, use.paths)) else "not found"
    if use.hook:
        return _why_not_called(host, path)
    return _why_not_callable(host, owner, use)


def _behind(path: str, owner: str) -> str:
    """The name that follows that of its owner."""
    return path[len(owner) + 1 :].partition(".")[0]


def _why_not_callable(host: Checkout, found: Found, use: Use) -> str:
    if not use.keyword and not use.positional:
        return ""
    made = host.members(found).get("__init__") if isinstance(found.node, ast.ClassDef) else found
    if made is None:
        return ""
    bound = made is not found
    why = why_not(made.node, use.positional, [use.keyword] if use.keyword else [], bound=bound)
    return f"{made.place} {why}" if why else ""


def _why_not_called(host: Checkout, path: str) -> str:
    """A hook is called by the runner of the scripts, and the runner by another module."""
    owner, _, name = path.rpartition(".")
    runner = host.find(RUNNERS[owner])
    if runner is None:
        return "no runner of scripts"
    if not host.names_hook(runner.module, name):
        return f"{runner.module.file} never calls it"
    if (
        isinstance(runner.node, ast.ClassDef)
        and name in host.members(runner)
        and not host.calls_method(name, outside=runner.module)
    ):
        return f"nobody calls ScriptRunner.{name}"
    return ""
