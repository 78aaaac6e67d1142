"""Folders that people already have: scored once, kept in a store, then labelled, sorted, reported and browsed."""
