"""What to judge: images and their prompts, out of files, folders, patterns and lists."""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageRewardError
from ..pictures.formats.table import ENDINGS, is_listed

LIST_SUFFIXES = frozenset({".jsonl", ".csv"})
_PATH_KEYS = ("path", "image", "file", "filename", "file_name")
_PROMPT_KEYS = ("prompt", "text", "caption")


@dataclass(frozen=True)
class Item:
    """One image to judge; None where no prompt was given for it."""

    path: Path
    prompt: str | None


def split_prompt(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """(prompt, inputs): the first argument is the prompt unless it names files."""
    if arguments and not _names_files(arguments[0]):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def _names_files(argument: str) -> bool:
    try:
        exists = Path(argument).expanduser().exists()
    except OSError:  # a prompt may be longer than any file name
        return False
    looks_like_file = Path(argument).suffix.lower() in ENDINGS.keys() | LIST_SUFFIXES and " " not in argument
    return exists or looks_like_file or bool(glob.glob(argument))


def gather(inputs: Iterable[str], prompt: str | None) -> list[Item]:
    """Files, folders (their images, by name), patterns and JSONL / CSV lists of prompt and path -> items in order.

    Raises ImageRewardError for what is not there. A prompt of a list's own goes before the common one.
    """
    items: list[Item] = []
    for text in inputs:
        for path in _expand(text):
            if path.suffix.lower() in LIST_SUFFIXES:
                items.extend(Item(p, own if own is not None else prompt) for p, own in read_list(path))
            else:
                items.append(Item(path, prompt))
    return items


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        return sorted(p for p in path.iterdir() if is_listed(p))
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
    if not matches:
        raise ImageRewardError(f"nothing is named {text!r}, and no file matches it")
    return matches


def read_list(path: Path) -> list[tuple[Path, str | None]]:
    """JSONL or CSV with a path ("path", "image", "file") and a prompt ("prompt", "text") a row; paths relative to the list."""
    rows = _rows(path)
    found: list[tuple[Path, str | None]] = []
    for number, row in enumerate(rows, start=1):
        image = next((row[key] for key in _PATH_KEYS if row.get(key)), None)
        if image is None:
            raise ImageRewardError(
                f"{path}, row {number}: expected one of {', '.join(_PATH_KEYS)}, got {', '.join(row)}"
            )
        prompt = next((row[key] for key in _PROMPT_KEYS if row.get(key) is not None), None)
        found.append((path.parent / str(image), None if prompt is None else str(prompt)))
    return found


def _rows(path: Path) -> list[dict[str, object]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            return [dict(row) for row in csv.DictReader(file)]
        rows = []
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ImageRewardError(
                    f"{path}, line {number}: expected a JSON object, got {line.strip()[:60]!r}"
                ) from error
            if not isinstance(row, dict):
                raise ImageRewardError(f"{path}, line {number}: expected a JSON object, got {type(row).__name__}")
            rows.append(row)
        return rows


def own_prompt(path: Path) -> str | None:
    """The prompt that a file brings along, in its metadata or in a text file of the same name."""
    from ..pictures.prompt_in_file import find_origin

    return find_origin(path).plain
