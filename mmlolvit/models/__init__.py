"""LOLViT and its parts. Needs torch, MMEngine and mmcv's Python parts only."""

from .fwa import FastWindowAttention, FWAPlugin
from .ghost import GhostBottleneck, GhostDownsample, GhostModule
from .glff import GLFFBlock
from .lolvit import LOLViT
from .losses import WeightedCrossEntropy

__all__ = [
    'FWAPlugin',
    'FastWindowAttention',
    'GLFFBlock',
    'GhostBottleneck',
    'GhostDownsample',
    'GhostModule',
    'LOLViT',
    'WeightedCrossEntropy',
]
