"""One file a format: what it can say, and what can be written into it without touching a pixel."""
