"""Where a command's results go: the options `--format` and `--output`, which mean the same everywhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

FORMATS = ("table", "json", "jsonl", "csv")
_ENDINGS = {".json": "json", ".jsonl": "jsonl", ".csv": "csv"}


def add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=FORMATS, help="table, json, jsonl or csv (default: by the ending of --output, else table)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="into a file instead of stdout")
    for old in ("json", "csv"):
        parser.add_argument(f"--{old}", action=_Renamed, nargs="?", help=argparse.SUPPRESS)


class _Renamed(argparse.Action):
    """Earlier `--json` took the next argument for its file: a prompt became one, and nothing was scored for it."""

    def __call__(
        self, parser: argparse.ArgumentParser, _namespace: Any, _values: Any, option: str | None = None
    ) -> None:
        parser.error(f"{option} is now --format {self.dest}; into a file: --format {self.dest} --output FILE")


@dataclass(frozen=True)
class Output:
    """A format, and the file that takes it; None is stdout."""

    format: str
    path: Path | None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Output:
        """What the options say. Raises UnwritableFile if the file cannot be written: before the work, not after it."""
        from ..files.writable import expect_writable

        path = None if args.output is None or str(args.output) == "-" else args.output
        if path is not None:
            expect_writable(path)
        ending = path.suffix.lower() if path is not None else ""
        return cls(args.format or _ENDINGS.get(ending, "table"), path)

    def write(self, rows: Sequence[Mapping[str, Any]], table: str) -> bool:
        """Writes the rows, or their table for people; if the file fails after all, to stdout, and False."""
        from ..errors import ImageRewardError

        if self.path is not None:
            try:
                self._write(rows, table, self.path)
                return True
            except (OSError, ImageRewardError) as error:
                print(
                    f"imagereward: {self.path} could not be written, so the results follow here: {error}",
                    file=sys.stderr,
                )
        self._write(rows, table, sys.stdout)
        return self.path is None

    def _write(self, rows: Sequence[Mapping[str, Any]], table: str, file: Path | TextIO) -> None:
        from ..files.tables import write_csv, write_json, write_jsonl, write_text

        if self.format == "table":
            write_text(table, file)
        else:
            {"json": write_json, "jsonl": write_jsonl, "csv": write_csv}[self.format](rows, file)
