"""Folders; the tests put a temporary one here."""

models_path = ""
