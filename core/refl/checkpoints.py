"""The folder of a run: its config, its record, its checkpoints, its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import ImageRewardError
from ..files.atomic import replacing
from .config import ReflConfig, read_config, write_config

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"


class RunFolder:
    """Where a run writes. `claim` refuses a folder that holds anything of another run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def check_free(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ImageRewardError(f"{self.path} is a file, and the run needs a folder: choose another output")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ImageRewardError(
                f"{self.path} already holds {len(list(self.path.iterdir()))} files"
                f"{' of another run' if (self.path / CONFIG).exists() else ''}: choose another, or go on with it (--resume)"
            )

    def claim(self, config: ReflConfig) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_config(config, self.path / CONFIG)

    def config(self) -> ReflConfig:
        if not (self.path / CONFIG).is_file():
            raise ImageRewardError(f"{self.path} holds no run to resume: {CONFIG} is not there")
        return read_config(self.path / CONFIG)

    def log(self, record: Mapping[str, Any]) -> None:
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        path = self.path / METRICS
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []

    def forget_after(self, update: int) -> None:
        """Drop records of updates that a resumed run will make again."""
        kept = [record for record in self.records() if record["update"] <= update]
        (self.path / METRICS).write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    # checkpoints

    def checkpoints(self) -> list[Path]:
        """Oldest first."""
        return sorted((self.path / "checkpoints").glob("update-*.pt"))

    def save(self, update: int, state: Mapping[str, Any], keep: int) -> Path:
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        path = folder / f"update-{update:08d}.pt"
        save_state(state, path)
        for old in self.checkpoints()[:-keep]:
            old.unlink()
        return path

    def latest(self) -> dict[str, Any]:
        checkpoints = self.checkpoints()
        if not checkpoints:
            raise ImageRewardError(
                f"{self.path} holds no checkpoint to resume from: start the run anew in another folder"
            )
        return load_state(checkpoints[-1])

    @property
    def best(self) -> Path:
        return self.path / "best.pt"


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Written beside and renamed, so that a crash while writing leaves the file before it."""
    with replacing(path) as file:
        torch.save(dict(state), file)


def load_state(path: Path) -> dict[str, Any]:
    """Tensors and plain values only: a pickle with code in it is refused."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch wraps a damaged file in several types
        raise ImageRewardError(
            f"checkpoint {path} is not readable ({error}): delete it to resume from the one before"
        ) from error
