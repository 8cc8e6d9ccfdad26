"""Global-local feature fusion (GLFF), LOLViT's block of the late stages."""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS
from .fwa import FastWindowAttention
from .ghost import BN, RELU, Residual, pointwise


class GlobalLocalFusion(nn.Module):
    """A Ghost feed-forward over ``concat(FWA(g), l)``, g the first channels of x and l the rest."""

    def __init__(
        self,
        channels: int,
        global_channels: int,
        hidden: int,
        fwa_cfg: dict,
        norm_cfg: dict,
        act_cfg: dict,
        ghost: bool,
    ):
        super().__init__()
        self.split = (global_channels, channels - global_channels)
        if global_channels:
            self.attention = FastWindowAttention(
                global_channels, **(dict(norm_cfg=norm_cfg) | fwa_cfg)
            )
            # The global channels are few: they start with as much energy as the local ones.
            gain = (self.split[1] / global_channels) ** 0.5 or 1.0
            if self.attention.out_norm.weight is not None:
                nn.init.constant_(self.attention.out_norm.weight, gain)
        self.expand = pointwise(channels, hidden, ghost, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.project = ConvModule(hidden, channels, 1, norm_cfg=norm_cfg, act_cfg=None)

    def forward(self, x: Tensor) -> Tensor:
        if self.split[0]:
            g, l = x.split(self.split, dim=1)  # noqa: E741
            x = torch.cat((self.attention(g), l), dim=1)
        return self.project(self.expand(x))


class GlobalResidual(nn.Module):
    """FWA added to the first channels of x: attention that is not fused with the rest."""

    def __init__(self, channels: int, global_channels: int, fwa_cfg: dict, norm_cfg: dict):
        super().__init__()
        self.split = (global_channels, channels - global_channels)
        self.attention = FastWindowAttention(global_channels, **(dict(norm_cfg=norm_cfg) | fwa_cfg))

    def forward(self, x: Tensor) -> Tensor:
        g, l = x.split(self.split, dim=1)  # noqa: E741
        return torch.cat((g + self.attention(g), l), dim=1)


@MODELS.register_module()
class GLFFBlock(BaseModule):
    """Local 3x3, then FWA fused with the local channels by a Ghost feed-forward; both residual.

    (B, C, H, W) -> (B, C, H, W). A fusion of global and local features, combined with GhostNet, is
    the abstract's; the block is our reconstruction: SHViT's single-head block, its attention and
    its feed-forward in one branch. It stays finite under fp16 and bf16 autocast for inputs of
    unit variance and a magnitude up to 30, on maps from 1 x 1 to 512 x 512.

    Args:
        channels (int): C.
        global_share (float): Share of the channels that attend, from 0 (no attention: the local
            twin) to 1; rounded to a multiple of 8 channels, at least 8.
        expansion (float): Hidden channels of the feed-forward over ``channels``.
        fwa_cfg (dict, optional): Arguments for :class:`FastWindowAttention`.
        drop_path (float): Probability of dropping each residual branch, per sample.
        without (Sequence[str]): What to leave out, for ablations: 'local', the 3x3; 'fusion', so
            that FWA is a residual of its own channels before the feed-forward; 'ghost', with a
            plain convolution in its place.
        norm_cfg (dict): Norm after each convolution.
        act_cfg (dict): Activation.
        init_cfg (dict, optional): MMEngine's initialization config.

    Raises:
        ValueError: If ``global_share`` is not within 0 to 1.
    """

    def __init__(
        self,
        channels: int,
        global_share: float = 0.125,
        expansion: float = 2,
        fwa_cfg: dict | None = None,
        drop_path: float = 0.0,
        without: Sequence[str] = (),
        norm_cfg: dict = BN,
        act_cfg: dict = RELU,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if not 0 <= global_share <= 1:
            raise ValueError(f'global_share must be within 0 to 1, got {global_share}')
        global_channels = int(channels * global_share / 8 + 0.5) * 8
        global_channels = min(max(global_channels, 8), channels) if global_share else 0
        hidden = int(channels * expansion)
        fwa_cfg = fwa_cfg or {}
        local = ConvModule(
            channels, channels, 3, padding=1, groups=channels, norm_cfg=norm_cfg, act_cfg=None
        )
        self.local = nn.Identity() if 'local' in without else Residual(local, drop_path)
        self.attention = nn.Identity()
        if 'fusion' in without and global_channels:
            self.attention = GlobalResidual(channels, global_channels, fwa_cfg, norm_cfg)
            global_channels = 0
        fusion = GlobalLocalFusion(
            channels, global_channels, hidden, fwa_cfg, norm_cfg, act_cfg, 'ghost' not in without
        )
        self.fusion = Residual(fusion, drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self.fusion(self.attention(self.local(x)))
