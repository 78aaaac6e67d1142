"""The A1111 parameters line as text; knows no file."""
