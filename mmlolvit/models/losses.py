"""A loss that both of the stacks can train with."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..registry import MODELS


@MODELS.register_module()
class WeightedCrossEntropy(nn.Module):
    """Cross entropy for mmseg's heads, its mean weighted by class over what is not ignored.

    The values of mmseg's CrossEntropyLoss with `class_weight`, which in mmseg 1.2.2 fails on
    pixels that are ignored.

    Args:
        class_weight (Sequence[float]): Of each class.
        loss_weight (float): Of the loss.
        loss_name (str): Its name in logs; begins with `loss_`.
    """

    def __init__(
        self,
        class_weight: Sequence[float],
        loss_weight: float = 1.0,
        loss_name: str = 'loss_ce',
    ):
        super().__init__()
        self.class_weight, self.loss_weight = class_weight, loss_weight
        self.loss_name = loss_name

    def forward(
        self,
        logits: torch.Tensor,
        label: torch.Tensor,
        weight: None = None,
        ignore_index: int = 255,
    ) -> torch.Tensor:
        """The loss of logits (N, C, H, W) and class ids (N, H, W); 0 where all is ignored.

        Raises ValueError for a ``weight``, which samplers of pixels give.
        """
        if weight is not None:
            raise ValueError("expected no sampler of pixels: mmseg's CrossEntropyLoss has one")
        weights = logits.new_tensor(self.class_weight)
        losses = F.cross_entropy(
            logits, label, weight=weights, reduction='none', ignore_index=ignore_index
        )
        total = weights[label[label != ignore_index]].sum()
        return self.loss_weight * losses.sum() / (total + torch.finfo(torch.float32).eps)
