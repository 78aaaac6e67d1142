"""Help that fits a screen: an example first, a short usage, and rare options only under `--help-all`."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any, NoReturn

WIDTH = 100


def add_rare(group: argparse._ActionsContainer, *names: str, **options: Any) -> None:
    """`add_argument` for what most people never need: `--help` leaves it out, `--help-all` shows it."""
    group.add_argument(*names, **options).rare = True  # type: ignore[attr-defined]


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as every other error is said."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.color = False  # Python 3.14 colours help pages with escape sequences, which the console spells out

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"imagereward: {message}; see {self.prog} --help\n")


class Command(Parser):
    """The parser of one subcommand."""

    example = ""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Page, add_help=False, **options)
        self.add_argument("-h", "--help", action="help", help="show this page")
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self.add_argument("--help-all", action=_HelpAll, nargs=0, help="show rarely needed options too")

    def format_help(self) -> str:
        return f"example: {self.example}\n\n{super().format_help()}"


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser.formatter_class = _FullPage
        parser.print_help()
        parser.exit()


class _Page(argparse.RawDescriptionHelpFormatter):
    """As argparse lays a page out, but with the usage last and short, and without the rare options."""

    complete = False

    def __init__(self, prog: str) -> None:
        self.prog = prog
        self.width = min(shutil.get_terminal_size().columns - 2, WIDTH)
        super().__init__(prog, max_help_position=30, width=self.width)

    def add_usage(self, usage: Any, actions: Iterable[argparse.Action], groups: Any, prefix: str | None = None) -> None:
        """argparse calls this first, and with all options of the command."""
        actions = list(actions)
        rare = [] if self.complete else [action for action in actions if hasattr(action, "rare")]
        self.hidden = rare or [action for action in actions if isinstance(action, _HelpAll)]
        required = [f"{a.option_strings[0]} {a.metavar}" for a in actions if a.option_strings and a.required]
        places = [str(a.metavar or a.dest) for a in actions if not a.option_strings]
        self.usage = " ".join(["usage:", self.prog, *required, "[options]", *places])

    def add_argument(self, action: argparse.Action) -> None:
        if action not in self.hidden:
            super().add_argument(action)

    def add_text(self, text: str | None) -> None:
        for line in (text or "").splitlines():
            super().add_text(textwrap.fill(line, self.width))

    def format_help(self) -> str:
        return f"{super().format_help()}\n{self.usage}\n"


class _FullPage(_Page):
    complete = True
