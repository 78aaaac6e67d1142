"""The checkpoints and the best weights of a run, as files: what is damaged or cannot be written costs as little as it can."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ImageRewardError
from ..files.atomic import remove, replace
from .backend import Backend
from .outputs import Saver
from .states import expect_weights, load_state, newest_readable, save_state, taking_from

CHECKPOINTS, BEST = "checkpoints", "best.pt"
_NUMBER = re.compile(r"update-(\d+)\.pt")


class Checkpoints:
    """Files `update-00000020.pt` in a folder, the newest `keep` of them."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def paths(self) -> list[Path]:
        """Oldest first."""
        return sorted((path for path in self.folder.glob("update-*.pt") if _number(path) >= 0), key=_number)

    def save(self, update: int, state: Mapping[str, Any]) -> Path:
        """Raises OSError. Other checkpoints are removed only once this one is written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"update-{update:08d}.pt"
        save_state(state, path)
        older = [each for each in self.paths() if _number(each) < update]
        later = [each for each in self.paths() if _number(each) > update]  # of a run that began here before this one
        for old in (*older[: max(0, len(older) - (self.keep - 1))], *later):
            with suppress(OSError):  # held by another program: the next save removes it
                remove(old)
        return path

    def restore_latest(self, restore: Callable[[dict[str, Any]], None], cure: str) -> list[str]:
        """Call `restore` with the newest checkpoint that it can use; returns what was wrong with newer ones.

        Raises ImageRewardError if there is none, with `cure` as its last sentence.
        """
        path, wrong = newest_readable(reversed(self.paths()), restore)
        if path is None:
            found = "; ".join(wrong) or "there is none"
            raise ImageRewardError(
                f"no checkpoint of {self.folder.parent} can be used, so the run cannot go on: {found}. {cure}"
            )
        return wrong

    def set_aside(self, after: int) -> None:
        """Rename checkpoints of later updates, which could not be read, so that they no longer count."""
        for path in self.paths():
            if _number(path) > after:
                with suppress(OSError):
                    replace(path, path.with_suffix(".damaged"))


class BestWeights:
    """The weights of the best evaluation, in a file; in memory, on every process, while that file cannot be written.

    path: None keeps them in memory all the time.
    """

    def __init__(
        self, path: Path | None, parameters: Mapping[str, nn.Parameter], backend: Backend, saver: Saver
    ) -> None:
        self.path, self.parameters, self.backend, self.saver = path, parameters, backend, saver
        self.kept = False  # whether there are any
        self.in_memory: dict[str, Tensor] | None = None

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        written = self.path is not None and (not self.backend.first or self._write(weights))
        everywhere = float(self.backend.mean(torch.tensor(float(written)))) == 1
        self.in_memory = None if everywhere else {name: tensor.clone() for name, tensor in weights.items()}
        self.kept = True

    def read(self) -> dict[str, Tensor]:
        """Raises DamagedState for a file that is lost or holds other weights."""
        if self.in_memory is not None or self.path is None:
            assert self.in_memory is not None
            return self.in_memory
        with taking_from(self.path):
            weights = load_state(self.path)
            expect_weights(weights, self.parameters)
        return weights

    def state(self) -> dict[str, Any]:
        return {"kept": self.kept, "in_memory": self.in_memory}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises nearly anything for a damaged state."""
        self.kept, self.in_memory = bool(state["kept"]), state["in_memory"]
        if self.in_memory is not None:
            expect_weights(self.in_memory, self.parameters)

    def write_again(self) -> None:
        """Try once more to write what is in no file yet."""
        if self.in_memory is not None and self._write(self.in_memory):
            self.in_memory = None

    def _write(self, weights: Mapping[str, Tensor]) -> bool:
        path = self.path
        if path is None:
            return False

        def write() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_state(weights, path)

        return self.saver.attempt(path.name, write)


def _number(path: Path) -> int:
    """The update that a checkpoint is of; -1 for another file."""
    match = _NUMBER.fullmatch(path.name)
    return int(match[1]) if match else -1
