"""The states that a training goes on from: written whole, read only if they are what they should be."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ImageRewardError, UnreadableText
from ..files.atomic import append_text, replacing
from ..files.console import counted
from ..files.parsing import parse_json
from ..weights.unreadable import reason_of

LONGEST_RECORD = 1 << 20  # bytes of a line


class DamagedState(ImageRewardError):
    """A file of a run is cut, altered, or of another version or model, so that nothing can go on from it."""


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """A crash while writing leaves the file that was there. Raises OSError."""
    with replacing(path) as file:
        torch.save(dict(state), file)


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote, on the CPU: tensors and plain values only.

    Raises DamagedState for anything else, and ImageRewardError for a file that cannot be opened now.
    """
    _expect_readable(path)
    try:
        _expect_own_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise ImageRewardError(f"no memory is left to read {path}: close other programs and try again") from error
    except Exception as error:  # a damaged file ends in errors of a dozen types
        raise DamagedState(f"{path} is damaged or no state of a run: {reason_of(error)}") from error
    if not isinstance(state, dict):
        raise DamagedState(f"{path} holds no state of a run but a {type(state).__name__}")
    return state


def _expect_readable(path: Path) -> None:
    """A file that another program holds says nothing of its content."""
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        raise DamagedState(f"{path} is not there") from error
    except OSError as error:
        raise ImageRewardError(f"cannot open {path} now: {error.strerror or error}. Try again.") from error


def _expect_own_archive(path: Path) -> None:
    """Raises ValueError or zipfile.BadZipFile for what `torch.save` did not write, or what changed since.

    torch.load itself checks no sums, unpacks what is compressed, however large, runs TorchScript, and reads older formats in
    which code could hide from `weights_only` (CVE-2025-32434).
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("its parts are compressed, which those of a state are not")
        if any(entry.filename.endswith("constants.pkl") for entry in entries):
            raise ValueError("it is a TorchScript program, not a state")
        broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"{broken} in it is damaged")


@contextmanager
def taking_from(path: Path) -> Iterator[None]:
    """Around what takes a state apart: a part that is missing or of the wrong kind is DamagedState, naming the file."""
    try:
        yield
    except ImageRewardError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise DamagedState(
            f"{path} does not hold what this version expects of a state ({type(error).__name__}: {error})"
        ) from error


def restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """As load_state_dict, which takes averages of any shape. Raises ValueError, or what torch raises."""
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            if name in kept and kept[name].shape != parameter.shape:
                raise ValueError(
                    f"{name} is of shape {tuple(kept[name].shape)}, its parameter {tuple(parameter.shape)}"
                )


def expect_weights(weights: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    """Raises DamagedState unless the weights are of these parameters."""
    cure = "it was made with other settings or for another model"
    if set(weights) != set(parameters):
        raise DamagedState(
            f"the checkpoint holds {counted(len(weights), 'tensor')}, {len(set(weights) & set(parameters))} of which are "
            f"among the {len(parameters)} trained here: {cure}"
        )
    for name, parameter in parameters.items():
        if weights[name].shape != parameter.shape:
            raise DamagedState(
                f"the checkpoint's {name} is {tuple(weights[name].shape)}, trained here is {tuple(parameter.shape)}: {cure}"
            )


def whole_number(value: object) -> int:
    """A count. Raises ValueError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a count, got {value!r:.80}")
    return value


def newest_readable(paths: Iterable[Path], restore: Callable[[dict[str, Any]], None]) -> tuple[Path | None, list[str]]:
    """Restores the first of `paths` (newest first) that can be: which, None if none can, and what was wrong with those before.

    What `restore` raises beside DamagedState, such as "belongs to another run", ends the search.
    """
    wrong: list[str] = []
    for path in paths:
        try:
            with taking_from(path):
                restore(load_state(path))
        except DamagedState as error:
            wrong.append(str(error))
        else:
            return path, wrong
    return None, wrong


class RecordFile:
    """Lines of JSON, added one by one. What cannot be written now is written with the next one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []
        self._torn = False

    def add(self, record: Mapping[str, Any]) -> None:
        """Raises OSError; the record is kept in memory then."""
        self._waiting.append(json.dumps(record))
        data = "".join(f"{line}\n" for line in self._waiting)
        try:
            append_text(self.path, f"\n{data}" if self._torn else data)
        except OSError:
            self._torn = True  # half a line may be there
            raise
        self._waiting, self._torn = [], False

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """The records that can be read, and how many lines cannot; a run that was killed leaves half a line."""
        records: list[dict[str, Any]] = []
        unreadable = 0
        if self.path.is_file():
            for line in self._lines():
                record = _record(line)
                if record is None:
                    unreadable += 1
                else:
                    records.append(record)
        return records, unreadable

    def rewrite(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Raises OSError."""
        with replacing(self.path) as file:
            file.write("".join(f"{json.dumps(record)}\n" for record in records).encode())
        self._waiting, self._torn = [], False

    def _lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while line := file.readline(LONGEST_RECORD):
                if line.strip():
                    yield line


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(line.decode(), "a record", constants=True)
    except (UnicodeDecodeError, UnreadableText):
        return None
    return record if isinstance(record, dict) else None
