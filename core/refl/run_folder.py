"""The folder of a run: its config, its record, its checkpoints, its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError
from ..files.writable import expect_writable_folder
from ..training.checkpoints import CHECKPOINTS, Checkpoints
from ..training.states import RecordFile, newest_readable
from .config import ReflConfig, config_from, read_settings, write_config

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
_RECORDED = ("update", "reward", "loss")


class RunFolder:
    """Where a run writes. `claim` refuses a folder that holds anything of another run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.metrics = RecordFile(self.path / METRICS)
        self.checkpoints = Checkpoints(self.path / CHECKPOINTS)

    def check_free(self) -> None:
        """Raises ImageRewardError unless a run can begin here."""
        if self.path.exists() and not self.path.is_dir():
            raise ImageRewardError(f"{self.path} is a file, and the run needs a folder: choose another output")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ImageRewardError(
                f"{self.path} already holds another run: choose another folder, or go on with that run (--resume)"
                if (self.path / CONFIG).exists()
                else f"{self.path} is not empty: choose another folder for the run"
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
        if not (self.path / CONFIG).is_file() and not self.checkpoints.paths():
            raise ImageRewardError(f"{self.path} holds no run to resume: {CONFIG} is not there")
        try:
            return _config_of(read_settings(self.path / CONFIG))
        except ImageRewardError as error:
            kept = self._config_in_checkpoint()
            if kept is None:
                raise ImageRewardError(
                    f"the settings of the run cannot be read, so it cannot go on: {error}. Mend {self.path / CONFIG} by hand."
                ) from error
            return kept

    def _config_in_checkpoint(self) -> ReflConfig | None:
        found: list[ReflConfig] = []
        newest_readable(reversed(self.checkpoints.paths()), lambda state: found.append(_config_of(state["config"])))
        return found[0] if found else None

    # the record

    def records(self) -> tuple[list[dict[str, Any]], int]:
        """One of each update, in their order, and how many lines of the file cannot be read."""
        records, unreadable = self.metrics.read()
        sound = [record for record in records if _is_record(record)]
        by_update = {record["update"]: record for record in sound}
        return [by_update[update] for update in sorted(by_update)], unreadable + len(records) - len(sound)


def _config_of(values: Mapping[str, Any]) -> ReflConfig:
    """A run that began before evaluations had a guidance of their own drew them as it trains, and goes on so."""
    return config_from({"evaluation_guidance": values.get("guidance", ReflConfig.guidance), **values})


def _is_record(record: Mapping[str, Any]) -> bool:
    numbers: Sequence[Any] = [record.get(key) for key in _RECORDED]
    sound = all(isinstance(number, (int, float)) for number in numbers)
    return sound and isinstance(record["update"], int) and isinstance(record.get("skipped"), bool)
