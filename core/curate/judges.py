"""Who scores a folder, and under which name the store keeps the scores."""

from __future__ import annotations

from pathlib import Path

from ..scorers.base import Scorer
from ..scorers.registry import scorer_infos


def store_key(spec: str, scorer: Scorer) -> str:
    """The name of a scorer in the store. Two checkpoint files are two scorers; the precision makes no difference.

    spec: what `load_scorer` was given.
    """
    if spec.lower() in scorer_infos():
        return spec.lower()
    path = Path(spec).expanduser()
    if not path.is_file():
        return spec
    stat = path.stat()
    return f"{scorer.info.name}:{path.name}:{stat.st_size}:{stat.st_mtime_ns}"
