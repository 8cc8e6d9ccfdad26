"""Fast Window Attention (FWA), the idea of the paper.

Letters: B batch, C channels, d query and key channels, h x w the map, N = h*w positions,
M windows.

    T = the map aggregated over windows      (B, C, M)    windows of ceil(sqrt(h)) x ceil(sqrt(w))
    a = share of each window in the map      (M,)         sums to 1
    Q = W_q X          K = W_k T             (B, d, N)    (B, d, M)
    Y = (T diag(a)) relu(1 + K^T Q / sqrt(d))             (B, C, N)

M is about sqrt(N), so the cost is N*M*(d + C) = O(N^1.5), with no ratio to choose. From the
abstract: keys and values by window aggregation, queries at every position, ReLU for SoftMax. Our
reconstruction: the window rule, the area weights, the norms, and two more (docs/architecture.md
has what they are worth). The 1: attention starts as the mean of all windows, every one heard, and
training changes who is heard by how much. And the windows are the values themselves: the
convolution that reads Y has room for a W_v.
"""

import math

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS

SCORES = ('relu', 'softmax', 'relu_norm')
AGGREGATIONS = {
    'mean': (F.avg_pool2d, F.adaptive_avg_pool2d),
    'max': (F.max_pool2d, F.adaptive_max_pool2d),
}


def window_side(size: int, window: str | int) -> int:
    """Side of the windows, in pixels, along a map side of ``size`` pixels."""
    return math.isqrt(size - 1) + 1 if window == 'adaptive' else min(window, size)


@MODELS.register_module()
class FastWindowAttention(BaseModule):
    """SoftMax-free attention of every position over adaptive windows, ``BN(FWA(BN(x)))``.

    (B, in_channels, H, W) -> the same. Scores and sums run in fp32 at least. Their size grows
    with the cube of the input, hence the norm before (with statistics of 0 and 1, which norm
    nothing, fp16 holds what comes of normal maps whose largest value is 60, not 100); it follows
    the content (ReLU weights have no fixed sum), hence the norm after. Both fold away in
    :func:`mmlolvit.deploy.fuse`. Parameters depend on neither score, window nor aggregation.

    Args:
        in_channels (int): C of the input.
        qk_channels (int): d, channels of Q and K.
        score (str): 'relu', 'softmax' or 'relu_norm' (ReLU over its row sum; an all-zero row
            gives 0).
        window (str | int | tuple): 'adaptive'; a fixed side in pixels (1: no aggregation, that
            is full attention); or ('grid', n), n x n windows of any size, as earlier work does.
        aggregation (str): 'mean' or 'max' of a window's real pixels.
        norm_cfg (dict): Norms before and after.
        init_cfg (dict, optional): MMEngine's initialization config.

    Raises:
        ValueError: On an unknown score, window or aggregation.
    """

    def __init__(
        self,
        in_channels: int,
        qk_channels: int = 16,
        score: str = 'relu',
        window: str | int | tuple[str, int] = 'adaptive',
        aggregation: str = 'max',
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if score not in SCORES:
            raise ValueError(f'score must be one of {SCORES}, got {score!r}')
        if aggregation not in AGGREGATIONS:
            raise ValueError(
                f'aggregation must be one of {tuple(AGGREGATIONS)}, got {aggregation!r}'
            )
        is_grid = isinstance(window, tuple | list) and len(window) == 2 and window[0] == 'grid'
        side = window[1] if is_grid else window
        if window != 'adaptive' and not (isinstance(side, int) and side > 0):
            raise ValueError(
                f"window must be 'adaptive', a side of at least 1 or ('grid', n), got {window!r}"
            )
        self.score = score
        self.window = window
        self.aggregation = aggregation
        self.scale = qk_channels**-0.5
        # mmcv's fuse_conv_bn takes a norm for that of the convolution registered last before it.
        self.in_norm = build_norm_layer(dict(norm_cfg, affine=False), in_channels)[1]
        self.out_norm = build_norm_layer(norm_cfg, in_channels)[1]
        self.q = nn.Conv2d(in_channels, qk_channels, 1, bias=False)
        self.k = nn.Conv2d(in_channels, qk_channels, 1, bias=False)
        # What fuse leaves of the norms: an affine map of the values, and a bias (C, 1) of Y.
        self.v = nn.Identity()
        self.register_parameter('bias', None)

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_norm(x)
        q = self.q(x)
        t, area = self.aggregate(x)  # (B, C, Mh, Mw), (M,) or 1 / M
        k, v = self.k(t), self.v(t)
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(x.dtype, torch.float32)
            y = self.attend(*(i.flatten(2).to(dtype) for i in (q, k, v)), area)
        y = y.reshape(x.shape)  # (B, C, N) -> (B, C, H, W)
        return self.out_norm(y.to(self.q.weight.dtype)).to(q.dtype)

    def aggregate(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """Aggregate (B, C, H, W) over windows into (B, C, Mh, Mw), with their area weights."""
        pool, adaptive_pool = AGGREGATIONS[self.aggregation]
        h, w = int(x.shape[2]), int(x.shape[3])
        if isinstance(self.window, tuple | list):
            grid = min(self.window[1], h), min(self.window[1], w)
            return adaptive_pool(x, grid), 1 / (grid[0] * grid[1])
        window = window_side(h, self.window), window_side(w, self.window)
        t = x if window == (1, 1) else pool(x, window, ceil_mode=True)
        if h % window[0] == w % window[1] == 0:
            return t, window[0] * window[1] / (h * w)
        # Real pixels of each window; an average pool of ones would be lost in an ONNX file.
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows, columns = (
            torch.arange(n, 0, -side, dtype=dtype, device=x.device).clamp(max=side)
            for n, side in zip((h, w), window, strict=True)
        )
        return t, (rows[:, None] * columns).flatten() / (h * w)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, area: Tensor | float) -> Tensor:
        """Q (B, d, N), K (B, d, M), V (B, C, M), area (M,) or 1 / M -> Y (B, C, N)."""
        one = q.new_ones(1, 1, 1)
        s = torch.baddbmm(one, k.transpose(1, 2), q, alpha=self.scale)  # (B, M, N)
        column = area[:, None] if isinstance(area, Tensor) else area
        if self.score == 'softmax':
            s = (s + column.log()).softmax(dim=1) if isinstance(area, Tensor) else s.softmax(dim=1)
        elif self.score == 'relu_norm':
            s = F.relu(s) * column
            s = s / s.sum(dim=1, keepdim=True).clamp_min(torch.finfo(s.dtype).tiny)
        else:
            s = F.relu(s)
            v = v * area
        return v @ s if self.bias is None else torch.baddbmm(self.bias.to(s.dtype), v, s)


@MODELS.register_module()
class FWAPlugin(FastWindowAttention):
    """FWA as an mmcv plugin layer, ``x + FWA(x)``: mmdet's ``plugins=[...]`` replaces x by it.

    Takes the arguments of :class:`FastWindowAttention`; the library gives ``in_channels``.
    """

    _abbr_ = 'fwa'

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)
