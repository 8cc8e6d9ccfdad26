"""Registers LOLViT with timm, as soon as a program that has imported mmlolvit imports timm."""

import importlib
import importlib.util
import sys

TIMM, MODELS = 'timm', 'mmlolvit.models.timm_models'


class TimmFinder:
    """Finds timm where the others do, and has our models registered once it is there."""

    def find_spec(self, fullname, path, target=None):
        # Python's start imports this everywhere: a program that never asks for us stays as it is.
        if fullname != TIMM or 'mmlolvit' not in sys.modules:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(TIMM)
        if spec is not None:
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                importlib.import_module(MODELS)

            spec.loader.exec_module = exec_module
        return spec


def install() -> None:
    """Register now if timm is there, or when it is imported."""
    if TIMM in sys.modules:
        importlib.import_module(MODELS)
        return
    sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != TimmFinder.__name__]
    sys.meta_path.insert(0, TimmFinder())
