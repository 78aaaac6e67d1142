"""What all components of a page share."""

from __future__ import annotations

from typing import Any


class Dependency:
    """What a listener returns: `then` adds another one after it."""

    def then(self, fn: Any = None, inputs: Any = None, outputs: Any = None, **more: Any) -> Dependency:
        return self


class Component:
    def __init__(self, value: Any = None, *, label: str | None = None, elem_id: str | None = None, **more: Any) -> None:
        self.value, self.label, self.elem_id, self.more = value, label, elem_id, more
        self.listeners: dict[str, Any] = {}

    def change(self, fn: Any = None, inputs: Any = None, outputs: Any = None, show_progress: Any = None) -> Dependency:
        self.listeners["change"] = (fn, inputs, outputs)
        return Dependency()

    def click(self, fn: Any = None, inputs: Any = None, outputs: Any = None) -> Dependency:
        self.listeners["click"] = (fn, inputs, outputs)
        return Dependency()

    def submit(self, fn: Any = None, inputs: Any = None, outputs: Any = None) -> Dependency:
        self.listeners["submit"] = (fn, inputs, outputs)
        return Dependency()

    def __enter__(self) -> Component:
        return self

    def __exit__(self, *error: Any) -> None: ...
