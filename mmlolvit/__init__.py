"""LOLViT: a lightweight vision backbone with fast window attention, for the OpenMMLab libraries."""

from mmlolvit import ops as ops  # mmcv's operators where mmcv was not compiled

__version__ = '0.1.0'
