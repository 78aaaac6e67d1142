"""A node pack for tests alone: a tiny real MODEL, CLIP and VAE, random pictures, and a look inside the server."""

from . import miniature, pretend, routes
from .nodes import NODE_CLASS_MAPPINGS

pretend.install()
routes.install()
miniature.install()

__all__ = ["NODE_CLASS_MAPPINGS"]
