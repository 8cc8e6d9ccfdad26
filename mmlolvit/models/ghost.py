"""GhostNet's convolutions (Han et al., CVPR 2020), the local half of LOLViT."""

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS

BN = dict(type='BN')
RELU = dict(type='ReLU')


class Residual(nn.Module):
    """``x + drop_path(branch(x))``."""

    def __init__(self, branch: nn.Module, drop_path: float = 0.0):
        super().__init__()
        self.branch = branch
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.branch(x))


@MODELS.register_module()
class GhostModule(BaseModule):
    """Half of the output from a convolution, the other half from a cheap 3x3 depthwise one of it.

    Args:
        in_channels (int): C of the input (B, C, H, W).
        out_channels (int): Channels of the output, an even number.
        kernel_size (int): Side of the first convolution's kernel, in pixels.
        stride (int): Stride of the first convolution, in pixels.
        norm_cfg (dict): Norm after each convolution.
        act_cfg (dict, optional): Activation after each norm, None for none.
        init_cfg (dict, optional): MMEngine's initialization config.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        norm_cfg: dict = BN,
        act_cfg: dict | None = RELU,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if out_channels % 2:
            raise ValueError(f'GhostModule needs an even out_channels, got {out_channels}')
        half = out_channels // 2
        cfg = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.primary = ConvModule(
            in_channels, half, kernel_size, stride, padding=kernel_size // 2, **cfg
        )
        self.cheap = ConvModule(half, half, 3, padding=1, groups=half, **cfg)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return torch.cat((x, self.cheap(x)), dim=1)


def pointwise(in_channels: int, out_channels: int, ghost: bool, **kwargs) -> nn.Module:
    """A 1x1 Ghost module, or in an ablation the plain convolution that it stands for."""
    kind = GhostModule if ghost else ConvModule
    return kind(in_channels, out_channels, kernel_size=1, **kwargs)


@MODELS.register_module()
class GhostDownsample(BaseModule):
    """Stride 2: the input itself, max-pooled, beside the new channels of a 3x3 convolution.

    The cheapest ghost features, and lasting ones: training cannot wear down what a pooled copy
    carries, a mark's colour for instance, while no loss asks for it yet. They come first. Our
    choice, after ENet's downsampling; docs/architecture.md has the measurements.

    Args:
        in_channels (int): C of the input (B, C, H, W).
        out_channels (int): Channels of the output (B, out_channels, ceil(H / 2), ceil(W / 2)).
        norm_cfg (dict): Norm after the convolution.
        act_cfg (dict): Activation.
        init_cfg (dict, optional): MMEngine's initialization config.

    Raises:
        ValueError: If ``out_channels`` does not exceed ``in_channels``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm_cfg: dict = BN,
        act_cfg: dict = RELU,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if out_channels <= in_channels:
            raise ValueError(
                'GhostDownsample keeps its input and adds to it: out_channels must exceed '
                f'{in_channels}, got {out_channels}'
            )
        new = out_channels - in_channels
        cfg = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv = ConvModule(in_channels, new, 3, stride=2, padding=1, **cfg)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.pool(x), self.conv(x)), dim=1)


@MODELS.register_module()
class GhostBottleneck(BaseModule):
    """Ghost expansion, Ghost projection and a residual: LOLViT's block of the early stages.

    Args:
        channels (int): C of the input and the output (B, C, H, W).
        expansion (float): Hidden channels over ``channels``.
        drop_path (float): Probability of dropping the branch, per sample.
        ghost (bool): False puts plain 1x1 convolutions in the place of the Ghost modules.
        norm_cfg (dict): Norm after each convolution.
        act_cfg (dict): Activation of the expansion.
        init_cfg (dict, optional): MMEngine's initialization config.
    """

    def __init__(
        self,
        channels: int,
        expansion: float = 2,
        drop_path: float = 0.0,
        ghost: bool = True,
        norm_cfg: dict = BN,
        act_cfg: dict = RELU,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        hidden = int(channels * expansion)
        expand = pointwise(channels, hidden, ghost, norm_cfg=norm_cfg, act_cfg=act_cfg)
        project = pointwise(hidden, channels, ghost, norm_cfg=norm_cfg, act_cfg=None)
        self.block = Residual(nn.Sequential(expand, project), drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)
