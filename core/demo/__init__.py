"""Painted pictures and the faults that can be done to them; nothing is downloaded."""
