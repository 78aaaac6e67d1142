"""HTML from templates: one look, nothing fetched, and what a file or a prompt says is shown as text.

A template lies beside the module that fills it and is named from `core` on: "curate/report.html". Pages extend
"pages/page.html", whose Content-Security-Policy lets nothing load and no script run but a page's own.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..files.atomic import replacing
from ..files.console import counted, printable

CORE = Path(__file__).resolve().parents[1]
_PIECES = 16  # of a page, written at once


def write_page(path: str | os.PathLike[str], template: str, *, folder: Path = CORE, **values: Any) -> Path:
    """Writes a page and returns its path. An older page stays until the new one is whole.

    folder: where the template's name starts, for a page that is not core's own.
    The template is streamed: an iterator among `values` is read while the page is written, so memory does not grow with it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = _environment(folder).get_template(template).stream(values)
    stream.enable_buffering(_PIECES)
    with replacing(path) as file:
        stream.dump(file, encoding="utf-8")
    return path


def render(template: str, **values: Any) -> Markup:
    """A piece of HTML, to be put into a page that somebody else writes."""
    return Markup(_environment().get_template(template).render(values))


def number(value: float, decimals: int = 4) -> str:
    """A real minus sign, and a dash for what is not finite."""
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "–"


def _fixed(value: float, decimals: int) -> str:
    """For attributes and styles, which know no other minus sign."""
    return f"{value:.{decimals}f}"


@cache
def asset(name: str) -> Markup:
    """The text of a style sheet or script of ours, named as templates are."""
    return Markup((CORE / name).read_text(encoding="utf-8"))


@cache
def script_source(name: str) -> str:
    """How a Content-Security-Policy names that script and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()}'"


@cache
def _environment(folder: Path = CORE) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, CORE]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"number": number, "fixed": _fixed, "counted": counted}
    environment.tests["finite"] = math.isfinite
    environment.globals |= {"asset": asset, "script_source": script_source}
    return environment


def _visible(value: Any) -> Any:
    """What every value passes on its way into a page: bidirectional overrides, NUL and the like are spelled out."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
