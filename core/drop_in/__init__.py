"""The names of the `image-reward` package."""
