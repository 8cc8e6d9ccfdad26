"""Looks inside a model."""

from .attention import attention_shares
from .complexity import Cost, complexity

__all__ = ['Cost', 'attention_shares', 'complexity']
