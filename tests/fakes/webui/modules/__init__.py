"""Stand-in of the host's package `modules`."""
