"""Takes one thing away from the stand-ins of the host, for the extension's code alone: the stand-ins themselves go on."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

import pytest

OURS = "sd_imagereward.sdwebui_extension"
METHODS_OF = ("Script", "ScriptPostprocessing")  # whose methods the host calls only if its own class has them


def take(path: str, keyword: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`modules.images.save_image` is gone, or does not take an argument any more if `keyword` is given.

    path: through modules, classes and objects; of a class it is the attribute of every object.
    """
    owner, name = _owner(path)
    if keyword:
        monkeypatch.setattr(owner, name, _without(getattr(owner, name), keyword))
    elif isinstance(owner, type) and owner.__name__ in METHODS_OF:
        monkeypatch.delattr(owner, name, raising=False)
    else:
        _hide(owner, name, monkeypatch)


def _owner(path: str) -> tuple[Any, str]:
    """The last but one of the path, and its last name."""
    parts = path.split(".")
    known = max(count for count in range(1, len(parts)) if ".".join(parts[:count]) in sys.modules)
    owner: Any = sys.modules[".".join(parts[:known])]
    for part in parts[known:-1]:
        owner = getattr(owner, part)
    return owner, parts[-1]


def _hide(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(owner, ModuleType):
        if f"{owner.__name__}.{name}" in sys.modules:  # a module: its import fails
            monkeypatch.setitem(sys.modules, f"{owner.__name__}.{name}", None)
            monkeypatch.delattr(owner, name)
        else:
            monkeypatch.setattr(owner, "__class__", type("Module", (ModuleType,), _hiding(ModuleType, name)))
        return
    of_objects = owner if isinstance(owner, type) else type(owner)
    for method, function in _hiding(of_objects, name).items():
        monkeypatch.setattr(of_objects, method, function)
    if isinstance(owner, type) and name in vars(owner):  # asked of the class itself, too
        meta = type("Meta", (type,), _hiding(type, name))
        monkeypatch.setattr(sys.modules[owner.__module__], owner.__name__, meta(owner.__name__, (owner,), {}))


def _hiding(owner: type, name: str) -> dict[str, Callable[[Any, str], Any]]:
    """Methods by which objects of the class seem to lack the name, to the extension's code."""

    def hide(real: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        def get(self: Any, wanted: str) -> Any:
            if wanted == name and _asked_by_ours():
                raise AttributeError(f"this host has no {name}")
            return real(self, wanted)

        return get

    looked_up = [method for method in ("__getattribute__", "__getattr__") if hasattr(owner, method)]
    return {method: hide(getattr(owner, method)) for method in looked_up}


def _without(function: Any, keyword: str) -> Any:
    """The function (or class) as it is where it does not take the argument."""

    @functools.wraps(function)
    def lacking(*args: Any, **kwargs: Any) -> Any:
        if keyword in kwargs and _asked_by_ours():
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{keyword}'")
        return function(*args, **kwargs)

    signature = inspect.signature(function)
    kept = [one for one in signature.parameters.values() if one.name != keyword]
    lacking.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return lacking


def _asked_by_ours() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals is globals():  # of this file: several things may be gone at once
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__", "")).startswith(OURS)
