"""Many images at once: rated, chosen, and what happens when memory runs out."""
