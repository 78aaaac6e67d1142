"""One way out: files that are whole or not there, tables, and moves that can be undone."""
