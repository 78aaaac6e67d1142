"""Stand-in of ComfyUI's `comfy.utils`: the progress bar, with a record of what it showed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

shown: list[tuple[int, int]] = []
on_update: Callable[[int, int], None] | None = None


def reset() -> None:
    global on_update
    on_update = None
    shown.clear()


class ProgressBar:
    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        self.total = total or self.total
        shown.append((value, self.total))
        if on_update is not None:
            on_update(value, self.total)
