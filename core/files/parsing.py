"""JSON and YAML that people write or programs left behind: bounded, without surprises, with one error for all that is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import ImageRewardError, UnreadableText

if TYPE_CHECKING:
    from yaml import SafeLoader

MOST_LEVELS = 64  # lists and mappings inside each other; nobody's settings have ten
MOST_DIGITS = 100  # of a whole number; int() takes quadratic time
MOST_YAML = 4 << 20  # characters; PyYAML reads about a third of a MiB a second
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, name: str, *, constants: bool = False) -> Any:
    """The value of a JSON text that came from the file `name`.

    constants: NaN and Infinity, which JSON lacks, are numbers. Raises UnreadableText for what is no JSON, for a key that
    stands twice in an object, and for more than 64 levels.
    """
    refuse = None if constants else _refuse_constant
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_int=_whole_number, parse_constant=refuse)
        _expect_levels(value, text.count("[") + text.count("{"))
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise UnreadableText(f"cannot read {name} as JSON: {_reason(error)}") from error
    return value


def parse_yaml(text: str, name: str) -> Any:
    """The value of a YAML text that came from the file `name`; needs PyYAML.

    Raises UnreadableText for what is no YAML, and for aliases, more than 64 levels and a key that stands twice in a
    mapping: an alias bomb of a few lines would become billions of values.
    """
    try:
        import yaml
    except ImportError as error:
        raise ImageRewardError(
            f"reading {name} needs PyYAML: pip install pyyaml. Or write the file as JSON."
        ) from error
    if len(text) > MOST_YAML:
        raise UnreadableText(
            f"expected at most {MOST_YAML >> 20} MiB of YAML in {name}, got {len(text) / (1 << 20):.1f}. Write it as JSON."
        )
    try:
        return yaml.load(text, Loader=_strict_loader(yaml.SafeLoader))
    except Exception as error:  # beside its own errors PyYAML raises ValueError, KeyError, RecursionError, ...
        raise UnreadableText(f"cannot read {name} as YAML: {_reason(error)}") from error


def _strict_loader(base: type[SafeLoader]) -> type[SafeLoader]:
    from yaml import AliasEvent
    from yaml.constructor import ConstructorError

    class StrictLoader(base):  # type: ignore[misc]
        levels = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(AliasEvent):
                raise ConstructorError(None, None, "aliases (*name) are not read", self.peek_event().start_mark)
            self.levels += 1
            if self.levels > MOST_LEVELS:
                raise ConstructorError(None, None, f"more than {MOST_LEVELS} levels", self.peek_event().start_mark)
            node = super().compose_node(parent, index)
            self.levels -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            mapping = super().construct_mapping(node, deep=deep)
            if len(mapping) < len(node.value):
                raise ConstructorError(None, None, "a key stands twice in this mapping", node.start_mark)
            return mapping

    return StrictLoader


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} stands twice in an object")
        found[key] = value
    return found


def _whole_number(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def _expect_levels(value: Any, brackets: int) -> None:
    """brackets: how many the text has, and so the most levels there can be."""
    if brackets <= MOST_LEVELS:
        return
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise ValueError(f"more than {MOST_LEVELS} levels")


def _children(value: Any) -> Iterable[Any]:
    inside: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in inside if isinstance(child, (dict, list))]


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return f"more than {MOST_LEVELS} levels"
    if isinstance(error, UnicodeEncodeError):
        return "a text holds half of a surrogate pair (\\ud800 to \\udfff)"
    return " ".join(str(error).split())[:300] or type(error).__name__
