"""LOLViT: a lightweight vision backbone with fast window attention, for the OpenMMLab libraries."""

__version__ = '0.1.0'
