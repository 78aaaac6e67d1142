"""Scores written into files that exist: the text changes, the compressed pixels and all other metadata stay, byte for byte."""

from __future__ import annotations

from .label import LABELLED_SUFFIXES, label_file, labelled, read_label

__all__ = ["LABELLED_SUFFIXES", "label_file", "labelled", "read_label"]
