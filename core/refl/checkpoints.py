"""The folder of a run: its config, its record, its checkpoints, its results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError
from ..files.atomic import remove, replace
from ..files.writable import expect_writable_folder
from ..training.states import RecordFile, newest_readable, save_state
from .config import ReflConfig, config_from, read_config, write_config

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
_NUMBER = re.compile(r"update-(\d+)\.pt")
_RECORDED = ("update", "reward", "loss")


class RunFolder:
    """Where a run writes. `claim` refuses a folder that holds anything of another run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.metrics = RecordFile(self.path / METRICS)

    def check_free(self) -> None:
        """Raises ImageRewardError unless a run can begin here."""
        if self.path.exists() and not self.path.is_dir():
            raise ImageRewardError(f"{self.path} is a file, and the run needs a folder: choose another output")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ImageRewardError(
                f"{self.path} already holds {len(list(self.path.iterdir()))} files"
                f"{' of another run' if (self.path / CONFIG).exists() else ''}: choose another, or go on with it (--resume)"
            )
        expect_writable_folder(self.path)

    def claim(self, config: ReflConfig) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_config(config, self.path / CONFIG)
        except OSError as error:
            raise ImageRewardError(f"cannot write the settings of the run into {self.path}: {error}") from error

    def config(self) -> ReflConfig:
        """The settings that the run was begun with; where their file is damaged, those in the newest checkpoint."""
        if not (self.path / CONFIG).is_file() and not self.checkpoints():
            raise ImageRewardError(f"{self.path} holds no run to resume: {CONFIG} is not there")
        try:
            return read_config(self.path / CONFIG)
        except ImageRewardError as error:
            kept = self._config_in_checkpoint()
            if kept is None:
                raise ImageRewardError(
                    f"the settings of the run cannot be read, so it cannot go on: {error}. Mend {self.path / CONFIG} by hand."
                ) from error
            return kept

    def _config_in_checkpoint(self) -> ReflConfig | None:
        found: list[ReflConfig] = []
        newest_readable(reversed(self.checkpoints()), lambda state: found.append(config_from(state["config"])))
        return found[0] if found else None

    # the record

    def records(self) -> tuple[list[dict[str, Any]], int]:
        """One of each update, in their order, and how many lines of the file cannot be read."""
        records, unreadable = self.metrics.read()
        sound = [record for record in records if _is_record(record)]
        by_update = {record["update"]: record for record in sound}
        return [by_update[update] for update in sorted(by_update)], unreadable + len(records) - len(sound)

    # checkpoints

    def checkpoints(self) -> list[Path]:
        """Oldest first."""
        return sorted(
            (path for path in (self.path / "checkpoints").glob("update-*.pt") if _number(path) >= 0), key=_number
        )

    def save(self, update: int, state: Mapping[str, Any], keep: int) -> Path:
        """Raises OSError. Older ones go only once this one is written."""
        folder = self.path / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"update-{update:08d}.pt"
        save_state(state, path)
        older = [each for each in self.checkpoints() if each != path]
        for old in older[: max(0, len(older) - (keep - 1))]:
            with suppress(OSError):  # held by another program: the next save removes it
                remove(old)
        return path

    def restore_latest(self, restore: Callable[[dict[str, Any]], None]) -> list[str]:
        """Calls `restore` with the newest checkpoint that it can use; returns what was wrong with those that are newer."""
        paths = list(reversed(self.checkpoints()))
        if not paths:
            raise ImageRewardError(
                f"{self.path} holds no checkpoint to resume from: start the run anew in another folder"
            )
        path, wrong = newest_readable(paths, restore)
        if path is None:
            raise ImageRewardError(
                f"no checkpoint of {self.path} can be used, so the run cannot go on. Start it anew in another folder, with "
                f"lora_from set to the LoRA file of this one if there is one. {'; '.join(wrong)}"
            )
        return wrong

    def set_aside(self, after: int) -> None:
        """Renames checkpoints of later updates, which could not be read, so that they count no longer."""
        for path in self.checkpoints():
            if _number(path) > after:
                with suppress(OSError):
                    replace(path, path.with_suffix(".damaged"))

    @property
    def best(self) -> Path:
        return self.path / "best.pt"


def _number(path: Path) -> int:
    """The update that a checkpoint is of; -1 for another file."""
    match = _NUMBER.fullmatch(path.name)
    return int(match[1]) if match else -1


def _is_record(record: Mapping[str, Any]) -> bool:
    numbers: Sequence[Any] = [record.get(key) for key in _RECORDED]
    sound = all(isinstance(number, (int, float)) for number in numbers)
    return sound and isinstance(record["update"], int) and isinstance(record.get("skipped"), bool)
