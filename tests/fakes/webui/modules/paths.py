"""Folders; the tests put a temporary one here."""

models_path = ""
data_path = ""
