"""Settings, state and command line of the host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class OptionInfo:
    def __init__(
        self,
        default: Any = None,
        label: str = "",
        component: Any = None,
        component_args: Any = None,
        section: Any = None,
        restrict_api: bool = False,
    ) -> None:
        self.default, self.label, self.component, self.section = default, label, component, section
        self.component_args, self.restrict_api = component_args, restrict_api

    def info(self, info: str) -> OptionInfo:
        return self

    def needs_reload_ui(self) -> OptionInfo:
        return self


class Options:
    def __init__(self) -> None:
        self.data_labels: dict[str, OptionInfo] = {}
        self.reset()

    def reset(self) -> None:
        self.data: dict[str, Any] = {
            "samples_format": "png",
            "samples_filename_pattern": "[seed]",
            "grid_format": "png",
            "grid_extended_filename": False,
            "grid_only_if_multiple": True,
            "return_grid": True,
            "grid_save": True,
            "return_mask": False,
            "return_mask_composite": False,
            "save_mask": False,
            "save_txt": False,
            "enable_pnginfo": True,
        }

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info
        self.data.setdefault(key, info.default)

    def set(self, key: str, value: Any) -> bool:
        assert not cmd_opts.freeze_settings, "changing settings is disabled"
        self.data[key] = value
        return True

    def save(self, filename: str) -> None:
        Path(filename).write_text(json.dumps(self.data), encoding="utf-8")

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["data"][key]
        except KeyError:
            raise AttributeError(key) from None


@dataclass
class State:
    interrupted: bool = False
    stopping_generation: bool = False
    skipped: bool = False
    job_count: int = -1
    textinfo: str | None = None


@dataclass
class CommandLine:
    listen: bool = False
    freeze_settings: bool = False


opts = Options()
state = State()
cmd_opts = CommandLine()
config_filename = ""  # the tests put a temporary one here
