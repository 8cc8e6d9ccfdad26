"""Looks inside a model."""

from .attention import attention_shares

__all__ = ['attention_shares']
