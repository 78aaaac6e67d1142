"""Stand-in of ComfyUI's `comfy.patcher_extension`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class CallbacksMP:
    ON_DETACH = "on_detach_after"


class WrappersMP:
    PREPARE_SAMPLING = "prepare_sampling"


class WrapperExecutor:
    """Calls a function through those that were put over it, the first of them outermost."""

    def __init__(
        self, original: Callable[..., Any], class_obj: object, wrappers: list[Callable[..., Any]], idx: int
    ) -> None:
        self.original, self.class_obj, self.wrappers, self.idx = original, class_obj, wrappers, idx

    @classmethod
    def new_executor(
        cls, original: Callable[..., Any], wrappers: list[Callable[..., Any]], idx: int = 0
    ) -> WrapperExecutor:
        return cls(original, None, wrappers, idx)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return WrapperExecutor(self.original, self.class_obj, self.wrappers, self.idx + 1).execute(*args, **kwargs)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        if self.idx == len(self.wrappers):
            return self.original(*args, **kwargs)
        return self.wrappers[self.idx](self, *args, **kwargs)
