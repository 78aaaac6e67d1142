"""A pickle read as a description: what it would call is named in the result and never called.

`pickle.Unpickler` runs what a pickle asks for, and even a restricted one can be made to fill the memory or to compute for
ever. Here each step of the pickle (as `pickletools` gives them) moves plain data on a stack, and their number is bounded.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LONGEST = 1 << 25  # bytes; a state dict of a thousand tensors has a tenth of a million
_MOST_STEPS = 1_000_000  # some 30 a tensor

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NEW: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
}
_ARGUMENT = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PLAIN_KEYS = (str, int, float, bytes, type(None))


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Made:
    """What the pickle would make by calling `what`; `items` are those of a mapping, `state` the object's attributes."""

    what: Name
    arguments: Any
    items: dict[Any, Any] = field(default_factory=dict)
    state: Any = None


@dataclass(frozen=True, eq=False)
class Persistent:
    """A reference to something that is kept beside the pickle."""

    reference: Any


def read_pickle(stream: io.BytesIO, may_name: Callable[[Name], bool]) -> Any:
    """The next pickle of the stream: lists, dicts, tuples, constants, and `Made`, `Name`, `Persistent` for the rest.

    Raises ValueError for names that `may_name` refuses, and ValueError, IndexError, KeyError or TypeError for what is no
    pickle.
    """
    machine = _Machine(may_name)
    for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if number >= _MOST_STEPS:
            raise ValueError(f"it takes more than {_MOST_STEPS} steps")
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise ValueError("it has no end")


class _Machine:
    def __init__(self, may_name: Callable[[Name], bool]) -> None:
        self.stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._may_name = may_name

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _ARGUMENT:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name == "MARK":
            self._marks.append(stack)
            self.stack = []
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name == "POP":
            stack.pop()
        elif name not in ("PROTO", "FRAME"):
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in ("TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS", "ADDITEMS", "POP_MARK"):
            self._use_marked(name)
        elif name == "APPEND":
            value = stack.pop()
            _expect(stack[-1], list).append(value)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set_items(stack[-1], [key, value])
        elif name == "GLOBAL":
            stack.append(self._named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            what, module = stack.pop(), stack.pop()
            stack.append(self._named(module, what))
        elif name == "BINPERSID":
            stack.append(Persistent(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, what = stack.pop(), stack.pop()
            stack.append(Made(_expect(what, Name), arguments))
        elif name == "BUILD":
            state = stack.pop()
            _expect(stack[-1], Made).state = state
        else:
            raise ValueError(f"it takes the step {name}, which no checkpoint needs")

    def _use_marked(self, name: str) -> None:
        marked, self.stack = self.stack, self._marks.pop()
        if name == "TUPLE":
            self.stack.append(tuple(marked))
        elif name == "LIST":
            self.stack.append(marked)
        elif name == "DICT":
            self.stack.append(_set_items({}, marked))
        elif name == "SETITEMS":
            _set_items(self.stack[-1], marked)
        elif name in ("APPENDS", "ADDITEMS"):
            _expect(self.stack[-1], list).extend(marked)

    def _named(self, module: Any, name: Any) -> Name:
        named = Name(_expect(module, str), _expect(name, str))
        if not self._may_name(named):
            raise ValueError(f"it asks for {named}")
        return named


def _set_items(target: Any, flat: list[Any]) -> Any:
    """Keys and values in turn, into a dict or a `Made`."""
    items = target.items if isinstance(target, Made) else _expect(target, dict)
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if isinstance(key, _PLAIN_KEYS):  # the hash of nested tuples can take for ever
            items[key] = value
    return target


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"expected a {kind.__name__}, got {type(value).__name__}")
    return value
