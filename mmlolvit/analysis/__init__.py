"""Looks inside a model."""

from .attention import attention_maps, attention_shares, image_attention
from .complexity import Cost, complexity

__all__ = ['Cost', 'attention_maps', 'attention_shares', 'complexity', 'image_attention']
