"""Help that fits a screen: an example first, a short usage, and rare options only under `--help-all`."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence
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
        super().__init__(formatter_class=_formatter, add_help=False, **options)
        self.add_argument("-h", "--help", action="help", help="show this page")
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self._help_all = self.add_argument(
            "--help-all", action=_HelpAll, nargs=0, help="show rarely needed options too"
        )

    def format_usage(self) -> str:
        """Only what has to be given."""
        required = [f"{a.option_strings[0]} {a.metavar}" for a in self._actions if a.option_strings and a.required]
        places = [str(a.metavar or a.dest) for a in self._actions if not a.option_strings]
        return "usage: " + " ".join([self.prog, *required, "[options]", *places]) + "\n"

    def format_help(self) -> str:
        return self._page([action for action in self._actions if hasattr(action, "rare")])

    def format_help_all(self) -> str:
        return self._page([])

    def _page(self, hidden: Sequence[argparse.Action]) -> str:
        """As argparse lays it out, but with the example on top and without the hidden options."""
        hidden = [*hidden] or [self._help_all]
        formatter = self._get_formatter()
        formatter.add_text(f"example: {self.example}")
        formatter.add_text(self.description)
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_arguments([action for action in group._group_actions if action not in hidden])
            formatter.end_section()
        for line in (self.epilog or "").splitlines():
            formatter.add_text(textwrap.fill(line, formatter._width))
        return formatter.format_help().rstrip("\n") + "\n\n" + self.format_usage()


class _HelpAll(argparse.Action):
    def __call__(self, parser: Any, *_: Any) -> None:
        print(parser.format_help_all(), end="")
        parser.exit()


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(shutil.get_terminal_size().columns - 2, WIDTH)
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=width)
