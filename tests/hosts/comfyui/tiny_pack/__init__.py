"""A node pack for tests alone: a tiny real MODEL, CLIP and VAE, random pictures, and a look inside the server."""

from .nodes import NODE_CLASS_MAPPINGS
from .routes import install

install()

__all__ = ["NODE_CLASS_MAPPINGS"]
