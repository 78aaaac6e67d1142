"""As much of gradio as a panel needs to be built and looked at."""

from __future__ import annotations

from typing import Any

from . import components as components
from .components import Component


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


class Radio(Component):
    def __init__(self, choices: Any = None, **more: Any) -> None:
        super().__init__(**more)
        self.choices = choices


class Button(Component): ...


class HTML(Component): ...


class Row(Component): ...


class Column(Component): ...


class Accordion(Component): ...


class Blocks(Component):
    def load(self, fn: Any = None, inputs: Any = None, outputs: Any = None) -> components.Dependency:
        return components.Dependency()


class Request:
    """Of the browser that a listener answers."""

    headers: dict[str, str]


class Error(Exception): ...


def update(**properties: Any) -> dict[str, Any]:
    """Changed properties of a component, as a listener returns them."""
    return properties
