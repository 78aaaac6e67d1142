"""Stand-in of ComfyUI's `comfy_api.latest.ui`."""

from __future__ import annotations

from ._io import FolderType


class SavedResult(dict):  # type: ignore[type-arg]
    def __init__(self, filename: str, subfolder: str, type: FolderType) -> None:
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)
