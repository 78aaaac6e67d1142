"""What the store says of a scorer and of a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..pictures.scan import Entry
from ..scorers.base import Scorer, ScorerInfo
from ..scorers.registry import scorer_infos


@dataclass(frozen=True)
class ScorerRecord:
    """A scorer as the store knows it."""

    key: str
    title: str
    reads_prompt: bool
    mean: float
    std: float

    @classmethod
    def of(cls, key: str, info: ScorerInfo) -> ScorerRecord:
        return cls(key, info.title, info.reads_prompt, info.mean, info.std)

    def prompt_key(self, prompt: str | None) -> bytes:
        """What the score depends on besides the picture."""
        return prompt_key(prompt) if self.reads_prompt else b""


def store_key(spec: str, scorer: Scorer) -> str:
    """The name of a scorer in the store. Two checkpoint files are two scorers; the precision makes no difference.

    Args:
        spec: what `load_scorer` was given.
        scorer: what it returned.

    Returns:
        The scorer's name, or that of its file with size and time.
    """
    if spec.lower() in scorer_infos():
        return spec.lower()
    path = Path(spec).expanduser()
    if not path.is_file():
        return spec
    stat = path.stat()
    return f"{scorer.info.name}:{path.name}:{stat.st_size}:{stat.st_mtime_ns}"


@dataclass(frozen=True)
class Picture:
    """One file and what is known of it."""

    path: Path
    size: int = 0
    mtime_ns: int = 0
    hash: bytes = b""
    prompt: str | None = None  # as scorers read it
    negative: str = ""
    model: str = ""
    loras: tuple[str, ...] = ()
    program: str = ""  # "": neither the file nor a text beside it had a prompt
    width: int = 0
    height: int = 0
    error: str = ""  # why it could not be read
    labels: str = ""  # the scores that were written into it, or found there, as JSON
    first_name: str = ""  # its name before any renaming
    prompt_from: str = ""  # the place that tells the prompt, and the node
    uncertain: str = ""  # why the prompt may be another one, or why there is none
    score: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    def unchanged(self, entry: Entry) -> bool:
        return (self.size, self.mtime_ns) == (entry.size, entry.mtime_ns)


def prompt_key(prompt: str | None) -> bytes:
    return hashlib.blake2b((prompt or "").encode("utf-8", "surrogatepass"), digest_size=12).digest()


def lora_names(column: str) -> tuple[str, ...]:
    return tuple(json.loads(column)) if column else ()


def search_text(name: str, prompt: str | None, model: str, loras: Sequence[str]) -> str:
    """Where a search looks for its words."""
    return " ".join((name, prompt or "", model, *loras)).lower()
