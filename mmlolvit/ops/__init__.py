"""Importing this makes ``mmcv.ops`` work where mmcv was installed without its compiled operators.

A finder at the end of ``sys.meta_path`` answers for ``mmcv._ext`` alone, so a compiled one, which
an earlier finder sees, always wins. Nothing is imported before mmcv asks for its operators: an
installed mmlolvit imports this at every start of Python (``setup.py``).
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec

__all__ = ['supplied']

EXTENSION = 'mmcv._ext'


class FallbackLoader:
    """Fills the module ``mmcv._ext`` with what ``mmlolvit.ops.fallback`` has."""

    def create_module(self, spec):
        return None  # an ordinary, empty module

    def exec_module(self, module):
        from mmlolvit.ops import fallback

        vars(module).update({name: getattr(fallback, name) for name in fallback.__all__})
        module.__getattr__ = fallback.missing_op


class FallbackFinder:
    """Finds ``mmcv._ext`` where no other finder does."""

    def find_spec(self, fullname, path, target=None):
        if fullname != EXTENSION:
            return None
        return ModuleSpec(fullname, FallbackLoader(), origin='mmlolvit.ops.fallback')


def supplied() -> bool:
    """Whether mmcv's operators come from here; False where they are compiled or mmcv is missing.

    Imports mmcv, but not its operators.
    """
    try:
        spec = importlib.util.find_spec(EXTENSION)
    except ImportError:
        return False
    return spec is not None and isinstance(spec.loader, FallbackLoader)


# Another copy of mmlolvit may have put its own there at Python's start.
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != FallbackFinder.__name__]
sys.meta_path.append(FallbackFinder())
