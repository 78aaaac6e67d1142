"""The last run and what it was made of, so that another file name alone does not train again."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from typing import Any, Generic, TypeVar

Made = TypeVar("Made")


class Memo(Generic[Made]):
    """Remembers one result. The objects it came from are compared by identity and not kept alive."""

    def __init__(self) -> None:
        self._objects: list[weakref.ref[Any] | None] = []
        self._values: Hashable = None
        self._made: Made | None = None
        self._kept: Any = None

    def get(self, objects: Sequence[Any], values: Hashable) -> Made | None:
        same = len(objects) == len(self._objects) and all(
            one is (None if kept is None else kept()) and (kept is None) == (one is None)
            for one, kept in zip(objects, self._objects, strict=True)
        )
        return self._made if same and values == self._values else None

    def put(self, objects: Sequence[Any], values: Hashable, made: Made, *, keep: Any = None) -> None:
        """`keep` stays alive: what is only known by its `id` in `values`, and would else hand that on to another."""
        self._objects = [None if one is None else weakref.ref(one) for one in objects]
        self._values, self._made, self._kept = values, made, keep
