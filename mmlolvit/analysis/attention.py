"""What the attention reads, and how much it matters."""

from contextlib import ExitStack
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from ..errors import UserError
from ..models.fwa import FastWindowAttention, window_side
from ..models.glff import GlobalLocalFusion
from .frame import find_frame, find_stride

SLACK = 0.01  # of a position: what a measured frame may be wrong by at the image's border


@torch.no_grad()
def attention_shares(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Share of each block's fused signal that comes from FWA, 0 to 1.

    In eval mode. The fusion's first convolution sums a part from FWA's channels and one from the
    local channels; the share is FWA's variance over batch and positions over that of both.

    Args:
        model (nn.Module): A LOLViT, or a model around one, before :func:`mmlolvit.deploy.fuse`.
        images (Tensor): Normalised images (B, C, H, W).

    Returns:
        dict[str, float]: Per fusion with attention, by module name.
    """
    shares = {}

    def measure(name: str):
        def hook(primary: nn.Module, inputs: tuple[Tensor]) -> None:
            parts = zip(
                inputs[0].split(splits[name], dim=1),
                primary.conv.weight.split(splits[name], dim=1),
                strict=True,
            )
            glob, local = (
                F.conv2d(x, weight).var(dim=(0, 2, 3)).sum().item() for x, weight in parts
            )
            shares[name] = glob / (glob + local)

        return hook

    fusions = {n: m for n, m in model.named_modules() if isinstance(m, GlobalLocalFusion)}
    splits = {name: fusion.split for name, fusion in fusions.items() if all(fusion.split)}
    handles = [
        fusions[name].expand.primary.register_forward_pre_hook(measure(name)) for name in splits
    ]
    training = model.training
    model.eval()
    try:
        model(images)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return shares


@torch.no_grad()
def attention_maps(model: nn.Module, *args, **kwargs) -> dict[str, Tensor]:
    """How much each position reads from each window when ``model(*args, **kwargs)`` runs.

    In eval mode. The weights are those that FWA multiplies its values by, so that
    ``Y = V (M columns) @ weights (M x N)``: for the score relu area * relu(1 + K^T Q / sqrt(d)),
    which sum to anything; for softmax and relu_norm they sum to 1 over the windows.

    Returns:
        dict[str, Tensor]: (B, Mh, Mw, H, W) of each FWA, by module name, in the order in which they
        run: windows first, then the positions that read them. Empty for a model without FWA.
    """
    maps = {}

    def recorder(name: str, fwa: FastWindowAttention):
        attend, aggregate, grid = fwa.attend, fwa.aggregate, []

        def recorded_aggregate(x: Tensor) -> tuple[Tensor, Tensor | float]:
            t, area = aggregate(x)
            grid[:] = *t.shape[2:], *x.shape[2:]
            return t, area

        def recorded_attend(q: Tensor, k: Tensor, v: Tensor, area: Tensor | float) -> Tensor:
            # Y is linear in V: with the identity as V it is the weights themselves.
            one = torch.eye(k.shape[2], dtype=q.dtype, device=q.device).expand(len(q), -1, -1)
            with patch.object(fwa, 'bias', None):
                maps[name] = attend(q, k, one, area).unflatten(2, grid[2:]).unflatten(1, grid[:2])
            return attend(q, k, v, area)

        return dict(aggregate=recorded_aggregate, attend=recorded_attend)

    training = model.training
    model.eval()
    try:
        with ExitStack() as stack:
            for name, module in model.named_modules():
                if isinstance(module, FastWindowAttention):
                    stack.enter_context(patch.multiple(module, **recorder(name, module)))
            model(*args, **kwargs)
    finally:
        model.train(training)
    return maps


@dataclass(frozen=True)
class ImageAttention:
    """One FWA on one image. Edges are in px of the image, where pixel i covers i to i + 1.

    Attributes:
        weights (ndarray): (Mh, Mw, H, W), as `attention_maps` gives them.
        window_edges (tuple): Of the windows, along x (Mw + 1,) and y (Mh + 1,).
        position_edges (tuple): Of the positions that read them, x (W + 1,) and y (H + 1,).
    """

    weights: np.ndarray
    window_edges: tuple[np.ndarray, np.ndarray]
    position_edges: tuple[np.ndarray, np.ndarray]

    def find_position(self, x: int, y: int) -> tuple[int, int]:
        """Column and row of the map where a pixel of the image is; raises UserError if nowhere."""
        place = []
        for name, pixel, edges in zip('xy', (x, y), self.position_edges, strict=True):
            index = (pixel + 0.5 - edges[0]) / (edges[1] - edges[0])
            number = len(edges) - 1
            if not -SLACK <= index <= number + SLACK:
                first, last = sorted((edges[0], edges[-1]))
                raise UserError(
                    f'pixel {x} {y}: of this image the test pipeline gives the model '
                    f'{name} = {round(first)} to {round(last) - 1} only; name one of these'
                )
            place.append(min(max(int(index), 0), number - 1))
        return tuple(place)

    def at(self, x: int, y: int) -> np.ndarray:
        """The weights (Mh, Mw) by which a pixel of the image reads the windows."""
        column, row = self.find_position(x, y)
        return self.weights[:, :, row, column]


def image_attention(predictor, image) -> dict[str, ImageAttention]:
    """What each FWA of a loaded model reads on an image, in the image's own pixels.

    A position of a map stands for the square of input pixels that a stride of a power of two, as
    LOLViT's and ResNet's, pools into it. Pipelines may resize, crop, flip and pad.

    Args:
        predictor (mmlolvit.inference.Predictor): Of any task.
        image: As the predictor takes it.

    Raises:
        UserError: On a model without FWA, and as the predictor and `find_frame` do.
    """
    sample = predictor.read(image)
    frame = find_frame(predictor, *sample['img'].shape[:2])
    model = predictor.model
    modules = dict(model.named_modules())
    data = pseudo_collate([sample['prepared']])
    with torch.no_grad():
        data = model.data_preprocessor(data, False)
    maps = attention_maps(model, **data, mode='tensor')
    if not maps:
        raise UserError(
            'the model has no FastWindowAttention: expected a LOLViT backbone with a '
            f'global_share above 0, or the plugin FWAPlugin; got {type(model).__name__}'
        )
    size = data['inputs'].shape[2:]
    found = {}
    for name, weights in maps.items():
        positions, windows = [], []
        for axis, (side, number) in enumerate(zip(size[::-1], weights.shape[:2:-1], strict=True)):
            stride = find_stride(side, number)
            for edges, into in (
                (np.arange(number + 1), positions),
                (find_edges(number, modules[name].window), windows),
            ):
                into.append(frame.to_image(axis, edges * stride))
        found[name] = ImageAttention(weights[0].cpu().numpy(), tuple(windows), tuple(positions))
    return found


def find_edges(size: int, window: str | int | tuple[str, int]) -> np.ndarray:
    """Edges (M + 1,) of FWA's windows along ``size`` positions.

    A fixed grid's windows may overlap by one position; their edges are drawn in the middle.
    """
    if isinstance(window, tuple | list):
        return np.linspace(0, size, min(window[1], size) + 1)
    side = window_side(size, window)
    return np.minimum(np.arange(0, size + side, side), size)
