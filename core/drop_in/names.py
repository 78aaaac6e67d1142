"""The module names of the `image-reward` package: `utils`, `ImageReward`, `models.BLIP.blip_pretrain`, `ReFL` and so on.

Clients import from them. They are entries in `sys.modules` under whatever name the package is mounted by, and under
`ImageReward` itself once `install_as_imagereward` is called; what they hold is imported when it is first used.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ..errors import ImageRewardError

_PACKAGE = "ImageReward"

_API = dict.fromkeys(("available_models", "available_scores", "ImageReward_download", "load", "load_score"), "api")
_SCORES = dict.fromkeys(("AestheticScore", "BLIPScore", "CLIPScore"), "scores")
_MODEL = dict.fromkeys(("ImageReward", "MLP"), "image_reward")
_BLIP = {"BLIP_Pretrain": "blip"}
_TOKENIZER = {"init_tokenizer": "tokenizer"}
_TRANSFORM = {"_transform": "preprocess"}
_TRAINER = ("Trainer", "parse_args")

# Module below the package -> its names -> the file of this folder that each is in.
_NAMES: dict[str, dict[str, str]] = {
    "utils": {**_API, **_SCORES, "ImageReward": "image_reward"},
    "ImageReward": {**_MODEL, **_BLIP, **_TRANSFORM},
    "models": {**_SCORES, **_BLIP, "MLP": "image_reward"},
    "models.AestheticScore": {"AestheticScore": "scores", "MLP": "image_reward"},
    "models.BLIPScore": {"BLIPScore": "scores", **_BLIP, **_TRANSFORM},
    "models.CLIPScore": {"CLIPScore": "scores"},
    "models.BLIP": _BLIP,
    "models.BLIP.blip": _TOKENIZER,
    "models.BLIP.blip_pretrain": {**_BLIP, **_TOKENIZER},
    "ReFL": dict.fromkeys(_TRAINER, "refl.sd1"),
    "ReFL_SDXL": dict.fromkeys(_TRAINER, "refl.sdxl"),
    "ReFL_SDXL_LoRA": dict.fromkeys(_TRAINER, "refl.sdxl_lora"),
}
_PACKAGE_NAMES = {**_API, **_SCORES, **_MODEL, **_BLIP}  # of the package itself

PUBLIC = (*_PACKAGE_NAMES, "ReFL", "models", "utils")  # what `import *` brings


class Names(ModuleType):
    """A module whose names lie in files of this folder."""

    def __init__(self, name: str, homes: dict[str, str]) -> None:
        super().__init__(name, f"Names of the `image-reward` package ({name.partition('.')[2] or name}).")
        self.__spec__ = ModuleSpec(name, loader=None, is_package=True)
        self.__path__: list[str] = []
        self.__all__ = [public for public in homes if not public.startswith("_")]
        self.__dict__["_homes"] = homes

    def __getattr__(self, name: str) -> Any:
        below = sys.modules.get(f"{self.__name__}.{name}")
        homes = self.__dict__["_homes"]
        if name in homes:
            return _found(name, homes)
        if isinstance(below, Names):
            return below
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}; it has {', '.join(homes)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.__dict__["_homes"]]


def attribute(package: str, name: str) -> Any:
    """A name of `package`, under which `register` was called. Raises AttributeError."""
    if name in _PACKAGE_NAMES:
        return _found(name, _PACKAGE_NAMES)
    if name in _NAMES:
        return sys.modules[f"{package}.{name}"]
    raise AttributeError(f"module {package!r} has no attribute {name!r}")


def register(package: str) -> None:
    """Makes `import package.utils` and its like possible."""
    for name, homes in _NAMES.items():
        sys.modules[f"{package}.{name}"] = Names(f"{package}.{name}", homes)


def install_as_imagereward() -> None:
    """From now on `import ImageReward` means this project, for code that cannot be changed.

    Call it before that code is imported. Harmless twice. Raises ImageRewardError if the `image-reward` package is there.
    """
    there = sys.modules.get(_PACKAGE)
    if isinstance(there, Names):
        return
    spec = importlib.util.find_spec(_PACKAGE) if there is None else there.__spec__
    if there is not None or spec is not None:
        place = spec.origin if spec is not None and spec.origin else "no file"
        raise ImageRewardError(
            f"another package ImageReward is there already ({place}), and this project does not take its place. "
            f"Fix: pip uninstall image-reward, or change the import to `import sd_imagereward as RM`"
        )
    sys.modules[_PACKAGE] = Names(_PACKAGE, _PACKAGE_NAMES)
    register(_PACKAGE)


def _found(name: str, homes: dict[str, str]) -> Any:
    return getattr(importlib.import_module(f".{homes[name]}", __package__), name)
