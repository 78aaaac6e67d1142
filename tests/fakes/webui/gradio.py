"""As much of gradio as a panel needs to be built and looked at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Component:
    def __init__(self, value: Any = None, *, label: str | None = None, elem_id: str | None = None, **more: Any) -> None:
        self.value, self.label, self.elem_id, self.more = value, label, elem_id, more
        self.listeners: dict[str, Any] = {}

    def change(self, fn: Any = None, inputs: Any = None, outputs: Any = None, show_progress: Any = None) -> None:
        self.listeners["change"] = (fn, inputs, outputs)

    def click(self, fn: Any = None, inputs: Any = None, outputs: Any = None) -> None:
        self.listeners["click"] = (fn, inputs, outputs)

    def __enter__(self) -> Component:
        return self

    def __exit__(self, *error: Any) -> None: ...


class Dropdown(Component):
    def __init__(self, choices: Any = None, **more: Any) -> None:
        super().__init__(**more)
        self.choices = choices


class Slider(Component):
    def __init__(self, minimum: float = 0, maximum: float = 100, **more: Any) -> None:
        super().__init__(**more)
        self.minimum, self.maximum = minimum, maximum


class Checkbox(Component): ...


class Number(Component): ...


class Textbox(Component): ...


class Radio(Component): ...


class Button(Component): ...


class HTML(Component): ...


class Row(Component): ...


class Column(Component): ...


components = SimpleNamespace(Component=Component)
