"""Models in their deploy form."""

from .fuse import fuse

__all__ = ['fuse']
