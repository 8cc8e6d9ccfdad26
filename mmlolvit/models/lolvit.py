"""LOLViT: GhostNet convolutions below, global-local fusion with Fast Window Attention above.

*Lightweight Backbone Networks Only Require Adaptive Lightweight Self-Attention Mechanisms*, arXiv
2508.01385. The parts are the abstract's; the layer table is our reconstruction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..registry import MODELS
from .ghost import BN, RELU, GhostBottleneck, GhostDownsample
from .glff import GLFFBlock

# The searched table: docs/architecture.md has the measurements behind it.
ARCHS = {
    'xx': dict(stem=16, channels=(24, 64, 192, 352), depths=(0, 0, 1, 1)),
    'x': dict(stem=16, channels=(32, 80, 304, 432), depths=(0, 0, 1, 1)),
    's': dict(stem=16, channels=(48, 112, 352, 608), depths=(0, 0, 1, 1)),
}
ARCH_DEFAULTS = dict(
    blocks=('ghost', 'ghost', 'glff', 'glff'), global_share=0.125, qk_channels=16, expansion=2
)
MECHANISMS = ('local', 'fusion', 'ghost')
STEM_STRIDE = 2


@MODELS.register_module()
class LOLViT(BaseModule):
    """The LOLViT backbone: a stem and four stages at strides 4, 8, 16 and 32.

    (B, in_channels, H, W) -> tuple of (B, out_channels[i], ceil(H / out_strides[i]), ...). Each
    stage opens with a :class:`GhostDownsample`.

    Args:
        arch (str | dict): 'xx', 'x' or 's', or a dict with ``stem`` (channels), ``channels``
            (growing from the stem on) and ``depths`` (blocks, one number per stage) and, if other
            than ``ARCH_DEFAULTS``, ``blocks`` ('ghost' or 'glff' per stage), ``global_share``,
            ``qk_channels`` and ``expansion``.
        out_indices (Sequence[int]): Stages to return, 0 to 3; negative ones count from the last.
            Stages after the last one asked for are not built.
        in_channels (int): Channels of the image.
        fwa_cfg (dict, optional): More arguments for :class:`FastWindowAttention`, for ablations:
            ``score``, ``window``, ``aggregation``.
        global_share (float, optional): In place of the arch's; 0 gives the local twin.
        without (Sequence[str]): Mechanisms to leave out, for ablations: 'local' and 'fusion' as in
            :class:`GLFFBlock`, and 'ghost', with plain convolutions in its place, the downsampling
            ones too.
        drop_path_rate (float): Drop probability of the last block's branches; grows linearly.
        frozen_stages (int): The stem and this many stages are fixed and in eval mode; 0 fixes
            the stem alone, -1 nothing.
        norm_eval (bool): Keep every BatchNorm's running statistics.
        norm_cfg (dict): Norm after each convolution.
        act_cfg (dict): Activation.
        with_cp (bool): Activation checkpointing: less memory for one more forward per block.
        init_cfg (dict | list, optional): MMEngine's initialization config.

    Attributes:
        out_channels (tuple[int]): Channels of each output.
        out_strides (tuple[int]): Input pixels per output pixel of each output.

    Raises:
        ValueError: On an arch, ``out_indices``, ``frozen_stages`` or mechanism that does not exist,
            and in ``forward`` on an image of other channels or with an empty side, or in training
            on a map too small for BatchNorm.
    """

    def __init__(
        self,
        arch: str | dict = 'x',
        out_indices: Sequence[int] = (-1,),
        in_channels: int = 3,
        fwa_cfg: dict | None = None,
        global_share: float | None = None,
        without: Sequence[str] = (),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: dict = BN,
        act_cfg: dict = RELU,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        arch = parse_arch(arch)
        if global_share is not None:
            arch['global_share'] = global_share
        num_stages = len(arch['channels'])
        self.out_indices = parse_out_indices(out_indices, num_stages)
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(f'frozen_stages must be -1 to {num_stages}, got {frozen_stages}')
        if not set(without) <= set(MECHANISMS):
            raise ValueError(f'without names some of {MECHANISMS}, got {without!r}')
        self.in_channels = in_channels
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.out_channels = tuple(arch['channels'][i] for i in self.out_indices)
        self.out_strides = tuple(STEM_STRIDE * 2 ** (i + 1) for i in self.out_indices)

        cfg = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        depth = sum(arch['depths'])
        drop_paths = iter(torch.linspace(0, drop_path_rate, depth).tolist())
        fwa_cfg = dict(qk_channels=arch['qk_channels']) | (fwa_cfg or {})

        def block(kind: str, channels: int) -> nn.Module:
            shared = dict(expansion=arch['expansion'], drop_path=next(drop_paths), **cfg)
            if kind == 'ghost':
                return GhostBottleneck(channels, ghost='ghost' not in without, **shared)
            share = arch['global_share']
            return GLFFBlock(channels, share, fwa_cfg=fwa_cfg, without=without, **shared)

        downsample = GhostDownsample
        if 'ghost' in without:
            downsample = partial(ConvModule, kernel_size=3, stride=2, padding=1)

        self.stem = ConvModule(in_channels, arch['stem'], 3, STEM_STRIDE, padding=1, **cfg)
        self.stages = nn.ModuleList()
        channels = arch['stem']
        for i in range(max(self.out_indices) + 1):
            down = downsample(channels, arch['channels'][i], **cfg)
            channels = arch['channels'][i]
            blocks = [block(arch['blocks'][i], channels) for _ in range(arch['depths'][i])]
            self.stages.append(nn.Sequential(down, *blocks))
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self._check_input(x)
        x = self.stem(x)
        outs = []
        for i, stage in enumerate(self.stages):
            for layer in stage:
                if self.with_cp and self.training and torch.is_grad_enabled():
                    x = checkpoint(
                        layer, x, use_reentrant=False, context_fn=partial(_checkpointing, layer)
                    )
                else:
                    x = layer(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> 'LOLViT':
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        for part in (self.stem, *self.stages)[: self.frozen_stages + 1]:
            part.eval()
            part.requires_grad_(False)

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels or 0 in x.shape:
            raise ValueError(
                f'LOLViT expects images (B, {self.in_channels}, H, W) with no empty side, '
                f'got {tuple(x.shape)}'
            )
        stride = STEM_STRIDE * 2 ** len(self.stages)
        positions = x.shape[0] * -(-x.shape[2] // stride) * -(-x.shape[3] // stride)
        last = self.stages[-1].modules()
        if positions == 1 and any(m.training for m in last if isinstance(m, _BatchNorm)):
            raise ValueError(
                'BatchNorm cannot train on one value per channel: the last map of a batch of '
                f'{tuple(x.shape)} is 1 x 1. Use a larger batch, images of more than {stride} '
                'pixels a side, or norm_eval=True'
            )


@contextmanager
def _fixed_statistics(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _checkpointing(layer: nn.Module) -> tuple:
    """Contexts of the forward and of its repetition, which must not count the batch again."""
    return nullcontext(), _fixed_statistics(layer)


def parse_arch(arch: str | dict) -> dict:
    """The complete arch dict for a name in ``ARCHS`` or a dict of the same form."""
    if isinstance(arch, str):
        arch = ARCHS.get(arch, arch)
    if not isinstance(arch, dict):
        raise ValueError(f'arch must be one of {tuple(ARCHS)} or a dict, got {arch!r}')
    required = set(ARCHS['x'])
    known = required | set(ARCH_DEFAULTS)
    if not required <= set(arch) <= known:
        raise ValueError(
            f'an arch dict needs {sorted(required)} and may have {sorted(ARCH_DEFAULTS)}, '
            f'got {sorted(arch)}'
        )
    arch = {**ARCH_DEFAULTS, **arch}
    lengths = {key: len(arch[key]) for key in ('channels', 'depths', 'blocks')}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"an arch's channels, depths and blocks need one length, got {lengths}")
    if not set(arch['blocks']) <= {'ghost', 'glff'}:
        raise ValueError(f"an arch's blocks are 'ghost' or 'glff', got {arch['blocks']}")
    widths = (arch['stem'], *arch['channels'])
    if any(new <= old for old, new in pairwise(widths)):
        raise ValueError(f"an arch's channels must grow, stem first, got {widths}")
    return arch


def parse_out_indices(out_indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """``out_indices`` without negative ones, ascending."""
    if isinstance(out_indices, int):
        out_indices = (out_indices,)
    ok = isinstance(out_indices, Sequence) and all(
        i in range(-num_stages, num_stages) for i in out_indices
    )
    if not ok or not out_indices:
        raise ValueError(
            f'out_indices must be one or more of {-num_stages} to {num_stages - 1}, '
            f'got {out_indices!r}'
        )
    return tuple(sorted({int(i) % num_stages for i in out_indices}))
