"""Folders that people already have: scored once, kept in a store, then labelled, sorted, reported and browsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_names

if TYPE_CHECKING:
    from .actions import Actions as Actions
    from .outcome import Outcome as Outcome
    from .pipeline import Summary as Summary
    from .pipeline import score_files as score_files
    from .ranking import Ranked as Ranked
    from .records import Picture as Picture
    from .records import ScorerRecord as ScorerRecord
    from .records import store_key as store_key
    from .report import write_report as write_report
    from .store import Store as Store
    from .workplace import Workplace as Workplace
    from .workplace import open_to_read as open_to_read
    from .workplace import open_workplace as open_workplace
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
