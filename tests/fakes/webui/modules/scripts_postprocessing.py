"""The Extras tab's scripts."""

from __future__ import annotations

from typing import Any


class PostprocessedImageSharedInfo:
    target_width: int | None = None


class PostprocessedImage:
    def __init__(self, image: Any) -> None:
        self.image = image
        self.info: dict[str, Any] = {}
        self.shared = PostprocessedImageSharedInfo()


class ScriptPostprocessing:
    order = 1000
    name: str | None = None

    def ui(self) -> dict[str, Any]:
        return {}

    def process(self, pp: PostprocessedImage, *positional: Any, **args: Any) -> None: ...

    def process_firstpass(self, pp: PostprocessedImage, **args: Any) -> None: ...
