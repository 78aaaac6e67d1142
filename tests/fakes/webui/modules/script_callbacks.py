"""Callbacks by kind. The real host forgets them all on Reload UI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

callbacks: dict[str, list[Callable[..., Any]]] = {}


class ImageSaveParams:
    def __init__(self, image: Any, p: Any, filename: str, pnginfo: dict[str, Any]) -> None:
        self.image, self.p, self.filename, self.pnginfo = image, p, filename, pnginfo


def call(kind: str, *args: Any) -> None:
    for callback in callbacks.get(kind, []):
        callback(*args)


def on_ui_settings(callback: Callable[..., Any]) -> None:
    callbacks.setdefault("ui_settings", []).append(callback)


def on_before_ui(callback: Callable[..., Any]) -> None:
    callbacks.setdefault("before_ui", []).append(callback)


def on_before_image_saved(callback: Callable[..., Any]) -> None:
    callbacks.setdefault("before_image_saved", []).append(callback)


def on_image_saved(callback: Callable[..., Any]) -> None:
    callbacks.setdefault("image_saved", []).append(callback)


def on_app_started(callback: Callable[..., Any]) -> None:
    callbacks.setdefault("app_started", []).append(callback)


def on_ui_tabs(callback: Callable[..., Any]) -> None:
    callbacks.setdefault("ui_tabs", []).append(callback)
