"""Folders whose pictures are shown apart from the others: of images that a WebUI's filter rejected."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Apart:
    """Which of the pictures below `root` count: those inside of folders of these names, or all others."""

    root: Path
    names: frozenset[str]
    inside: bool

    def __call__(self, path: str | Path) -> bool:
        folders = os.path.relpath(os.path.dirname(path), self.root).split(os.sep)
        return self.inside is not self.names.isdisjoint(folders)
