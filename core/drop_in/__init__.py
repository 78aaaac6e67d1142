"""The names of the `image-reward` package, as modules and classes of their own that its clients use unchanged."""
