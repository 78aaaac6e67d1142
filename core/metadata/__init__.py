"""A score as text: on the A1111 parameters line, inside image files, and in CSV and JSONL tables."""

from __future__ import annotations

from .files import read_parameters, read_texts, save_image
from .parameters import Parameters, parse_parameters
from .scores import read_scores, score_pair, set_scores
from .tables import write_csv, write_jsonl

__all__ = [
    "Parameters",
    "parse_parameters",
    "read_parameters",
    "read_scores",
    "read_texts",
    "save_image",
    "score_pair",
    "set_scores",
    "write_csv",
    "write_jsonl",
]
