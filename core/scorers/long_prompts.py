"""What is said of a prompt that is longer than its scorer reads."""

from __future__ import annotations

import logging
from functools import lru_cache

log = logging.getLogger(__name__)


@lru_cache(maxsize=1024)
def tell_cut(title: str, tokens: int, unread: str) -> None:
    """Once a prompt: the part that was not read."""
    log.warning("%s reads %d tokens; not read of this prompt: %r", title, tokens, unread)
