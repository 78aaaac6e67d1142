"""Libraries of prompts, and the search in them for prompts that are similar to a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_names

if TYPE_CHECKING:
    from .embedders import Embedder as Embedder
    from .embedders import load_embedder as load_embedder
    from .embedders import scorer_embedder as scorer_embedder
    from .entries import Entry as Entry
    from .entries import read_library as read_library
    from .library import PromptLibrary as PromptLibrary
    from .library import Suggestion as Suggestion
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
