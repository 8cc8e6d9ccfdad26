"""How far a backbone sees."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn


def receptive_field(backbone: nn.Module, images: Iterable[Tensor]) -> np.ndarray:
    """The effective receptive field of the central position of a backbone's last map.

    In eval mode: the absolute gradient of the sum of its channels to each input pixel, added over
    the input's channels and averaged over the images (Luo et al., 2016, arXiv 1701.04128).

    Args:
        backbone (nn.Module): (1, C, H, W) -> a map or a sequence of them.
        images (Iterable[Tensor]): Normalised, each (C, H, W), of one size.

    Returns:
        ndarray: (H, W), of a sum of 1 unless all is 0.
    """
    training = backbone.training
    backbone.eval()
    total, number = 0, 0
    try:
        for image in images:
            image = image[None].clone().requires_grad_()
            with torch.enable_grad():
                outs = backbone(image)
                last = outs if isinstance(outs, Tensor) else outs[-1]
                center = last[:, :, last.shape[2] // 2, last.shape[3] // 2]
                (gradient,) = torch.autograd.grad(center.sum(), image)
            total = total + gradient[0].abs().sum(0).double().cpu().numpy()
            number += 1
    finally:
        backbone.train(training)
    field = total / number
    return field / (field.sum() or 1.0)


def smallest_square(field: np.ndarray, share: float) -> tuple[int, int, int]:
    """Left, top and side in px of the smallest square that holds a share of a field (H, W).

    RepLKNet's measure (Ding et al., 2022, arXiv 2203.06717), wherever the field lies. Where the
    square is larger than a side of the image, what is outside counts nothing.
    """
    sums = np.pad(field.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    wanted = share * sums[-1, -1] * (1 - 1e-9)  # for the rounding of the sums

    def best(side: int) -> tuple[float, int, int]:
        h, w = (min(side, length) for length in field.shape)
        inside = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
        top, left = np.unravel_index(inside.argmax(), inside.shape)
        return inside[top, left], int(left), int(top)

    low, high = 1, max(field.shape)
    while low < high:  # a larger square holds at least as much
        middle = (low + high) // 2
        low, high = (low, middle) if best(middle)[0] >= wanted else (middle + 1, high)
    _, left, top = best(low)
    return left, top, low
