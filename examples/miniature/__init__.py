"""The paper in miniature: everything is learned from nothing, on a CPU, in a world whose true preference is known."""
