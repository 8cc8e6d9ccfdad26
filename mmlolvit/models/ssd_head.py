"""mmdet's SSD head, able to predict. Needs mmdet, so configs name it in ``custom_imports``."""

from mmdet.models.dense_heads import SSDHead as MMDetSSDHead

from ..registry import MODELS


@MODELS.register_module()
class SSDHead(MMDetSSDHead):
    """mmdet's ``SSDHead``; since mmdet 3.2 prediction asks each head for a loss this one lacks."""

    loss_cls = None
