"""LOLViT: a lightweight vision backbone with fast window attention, for the OpenMMLab libraries."""

from mmlolvit import images as images  # OpenCV's limit, before OpenCV is imported
from mmlolvit import ops as ops  # mmcv's operators where mmcv was not compiled
from mmlolvit import timm_hook

__version__ = '0.1.0'
__all__ = ['list_models', 'load']


def __getattr__(name: str):
    # Python's start imports this, so that nothing may take long before it is asked for.
    if name == 'load':
        from mmlolvit.inference import load

        return load
    if name == 'list_models':
        from mmlolvit.zoo import list_models

        return list_models
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


timm_hook.install()
