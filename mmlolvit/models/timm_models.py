"""LOLViT as models of timm: ``timm.create_model('lolvit_x')``, once mmlolvit is imported.

No weights are published: ``pretrained=True`` is refused by timm.
"""

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from .lolvit import ARCHS, LOLViT


class LOLViTClassifier(nn.Module):
    """The backbone with timm's interface of a classifier.

    Args:
        arch (str | dict): As :class:`LOLViT` takes it.
        num_classes (int): 0 for pooled features (B, C).
        in_chans (int): Channels of the image.
        global_pool (str): '' for the map (B, C, H, W) where ``num_classes`` is 0.
        drop_rate (float): Dropout before the classifier.
        **kwargs: Of :class:`LOLViT`.
    """

    def __init__(
        self,
        arch: str | dict = 'x',
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.backbone = LOLViT(arch, (0, 1, 2, 3), in_channels=in_chans, **kwargs)
        scales = zip(self.backbone.out_channels, self.backbone.out_strides, strict=True)
        self.feature_info = [
            dict(num_chs=channels, reduction=stride, module=f'backbone.stages.{i}')
            for i, (channels, stride) in enumerate(scales)
        ]
        self.num_features = self.head_hidden_size = self.backbone.out_channels[-1]
        self.head = ClassifierHead(self.num_features, num_classes, global_pool, drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        return self.backbone(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head(x, pre_logits=pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of some stages; with the last map before them unless they are all one wants."""
        if output_fmt != 'NCHW':
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        chosen, _ = feature_take_indices(len(self.feature_info), indices)
        maps = self.backbone(x)
        found = [maps[i] for i in chosen]
        return found if intermediates_only else (maps[-1], found)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last of ``indices``, and the classifier."""
        chosen, last = feature_take_indices(len(self.feature_info), indices)
        self.backbone.stages = self.backbone.stages[: last + 1]
        self.backbone.out_indices = self.backbone.out_indices[: last + 1]
        if prune_head:
            self.reset_classifier(0, '')
        return chosen

    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        return set()


def _cfg() -> dict:
    return dict(
        url='',
        num_classes=1000,
        input_size=(3, 256, 256),
        pool_size=(8, 8),
        crop_pct=0.95,
        interpolation='bicubic',
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        first_conv='backbone.stem.conv',
        classifier='head.fc',
    )


default_cfgs = generate_default_cfgs({f'lolvit_{arch}': _cfg() for arch in ARCHS})


def _register(arch: str) -> None:
    def create(pretrained: bool = False, **kwargs) -> LOLViTClassifier:
        return build_model_with_cfg(
            LOLViTClassifier,
            f'lolvit_{arch}',
            pretrained,
            arch=arch,
            feature_cfg=dict(out_indices=(0, 1, 2, 3), feature_cls='getter'),
            **kwargs,
        )

    create.__name__ = f'lolvit_{arch}'
    if not timm.is_model(create.__name__):
        register_model(create)


for name in ARCHS:
    _register(name)
