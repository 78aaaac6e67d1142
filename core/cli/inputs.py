"""What to score: images and their prompts, out of files, folders, patterns and lists."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageRewardError
from ..pictures.formats.table import ENDINGS

if TYPE_CHECKING:
    pass

LIST_SUFFIXES = frozenset({".jsonl", ".csv"})
_PATH_KEYS = ("path", "image", "file", "filename", "file_name")
_PROMPT_KEYS = ("prompt", "text", "caption")


@dataclass(frozen=True)
class Item:
    """One image to score; prompt is None where none was given for it, error says why it cannot be scored."""

    path: Path
    prompt: str | None
    error: str = ""
    prompt_from: str = ""  # where the file's own prompt lies
    uncertain: str = ""  # why that may be another one


def split_prompt(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """(prompt, inputs): the first argument is the prompt unless it names files."""
    if arguments and not _names_files(arguments[0]):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def doubtful(arguments: Sequence[str]) -> bool:
    """Whether the first argument is read as a file or folder, and might be meant as the prompt of those behind it."""
    return len(arguments) > 1 and _names_files(arguments[0]) and not _looks_like_file(arguments[0])


def _names_files(argument: str) -> bool:
    return bool(argument.strip()) and (_exists(argument) or _looks_like_file(argument) or bool(glob.glob(argument)))


def _exists(argument: str) -> bool:
    try:
        return Path(argument).expanduser().exists()
    except (OSError, RuntimeError):  # a prompt may be longer than any file name, or begin with "~nobody"
        return False


def _looks_like_file(argument: str) -> bool:
    if any(separator in argument for separator in (os.sep, os.altsep) if separator) and _exists(argument):
        return True
    return Path(argument).suffix.lower() in ENDINGS.keys() | LIST_SUFFIXES and " " not in argument


def gather(inputs: Iterable[str], prompt: str | None) -> list[Item]:
    """Files, folders (their images and those below, by name), patterns and JSONL / CSV lists -> items in order.

    What is missing or cannot be read is an item with an error. A prompt of a list's own goes before the common one.
    """
    return [_checked(item) for text in inputs for item in _items(text, prompt)]


def _items(text: str, prompt: str | None) -> Iterator[Item]:
    path = Path(os.path.expanduser(text))
    paths = [path] if path.exists() else _matching(str(path))
    if not paths:
        yield Item(Path(text), prompt, "nothing has this name, and no file matches it")
    for path in paths:
        if path.is_dir():
            yield from _images_below(path, prompt)
        elif path.suffix.lower() in LIST_SUFFIXES:
            yield from _listed(path, prompt)
        else:
            yield Item(path, prompt)


def _matching(pattern: str) -> list[Path]:
    found = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
    return [path for path in found if not path.is_dir()] if "**" in pattern else found  # which goes down by itself


def _images_below(folder: Path, prompt: str | None) -> Iterator[Item]:
    from ..pictures.scan import scan

    try:
        os.scandir(
            folder
        ).close()  # `scan` leaves out what cannot be listed; of the folder that was asked for, it is said
    except OSError as error:
        yield Item(folder, prompt, error.strerror or str(error))
        return
    root = os.path.realpath(folder)
    found = sorted(folder / entry.path.relative_to(root) for entry in scan(folder))
    yield from (Item(path, prompt) for path in found)
    if not found:
        yield Item(folder, prompt, "no image is in this folder or below it")


def _listed(path: Path, prompt: str | None) -> Iterator[Item]:
    try:
        rows = read_list(path)
    except ImageRewardError as error:
        yield Item(path, prompt, str(error))
        return
    for image, own in rows:
        yield Item(image, own if own is not None else prompt)


def _checked(item: Item) -> Item:
    """The item, with what keeps its file from being opened at all."""
    if item.error:
        return item
    try:
        mode = os.stat(item.path).st_mode
    except (OSError, ValueError) as error:
        return replace(item, error=getattr(error, "strerror", None) or str(error))
    return item if stat.S_ISREG(mode) else replace(item, error="expected an image file, found a folder, pipe or device")


def read_list(path: Path) -> list[tuple[Path, str | None]]:
    """JSONL or CSV with a path ("path", "image", "file") and a prompt ("prompt", "text") a row; paths relative to the list."""
    from ..files.rows import first_of, read_rows

    found: list[tuple[Path, str | None]] = []
    for number, row in enumerate(read_rows(path), start=1):
        if not isinstance(row, dict):
            raise ImageRewardError(f"{path}, row {number}: expected a JSON object, got {type(row).__name__}")
        image = next((row[key] for key in _PATH_KEYS if row.get(key)), None)
        if image is None:
            columns = ", ".join(map(str, row))
            raise ImageRewardError(f"{path}, row {number}: expected one of {', '.join(_PATH_KEYS)}, got {columns}")
        prompt = first_of(row, _PROMPT_KEYS)
        found.append((path.parent / str(image), None if prompt is None else str(prompt)))
    return found
