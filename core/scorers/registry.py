"""Which scorers there are: every module of this folder that decorates a class with `@register`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
from typing import TypeVar

from .base import Scorer, ScorerInfo

S = TypeVar("S", bound=type[Scorer])
_classes: dict[str, type[Scorer]] = {}
_infos: dict[str, ScorerInfo] = {}


def register(cls: S) -> S:
    """Class decorator: announces the scorer under the name of each of its `variants`."""
    for info in cls.variants:
        if info.name in _classes and _classes[info.name].__qualname__ != cls.__qualname__:
            raise ValueError(f"two scorers are named {info.name!r}: {_classes[info.name].__name__} and {cls.__name__}")
        _classes[info.name] = cls
        _infos[info.name] = info
    return cls


@lru_cache(maxsize=1)
def _import_all() -> None:
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")


def scorer_classes() -> dict[str, type[Scorer]]:
    """Name -> class, ImageReward first, then by name."""
    _import_all()
    return {name: _classes[name] for name in sorted(_classes, key=lambda n: (n != "imagereward", n))}


def known_titles() -> list[str]:
    """The titles under which this package writes scores into files: of every scorer, and of mixtures."""
    from .mix import TITLE

    return [TITLE, *(info.title for info in scorer_infos().values())]


def scorer_infos() -> dict[str, ScorerInfo]:
    """Every scorer, and what its number means.

    Returns:
        `ScorerInfo` by name, ImageReward first, then by name.
    """
    return {name: _infos[name] for name in scorer_classes()}
