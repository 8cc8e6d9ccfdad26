"""``python -m mmlolvit.ops.compare``: our operators beside a compiled mmcv's, on random input.

For machines with a compiled mmcv. Below float32, which ours compute in float32, the compiled ones
get the same values in float32. Exits with 1 where the two differ by more than rounding, and with 2
where there is nothing to compare with.
"""

import argparse
import importlib
import math
import sys
from unittest import mock

import torch
from torch import Tensor

from mmlolvit import ops
from mmlolvit.ops import fallback

# The largest difference that is rounding, relative to the largest value.
LIMITS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def nms(make, offset: int):
    """The indices that stay: any difference is above any limit."""
    from mmcv.ops import nms

    corner = torch.rand(250, 2) * 200
    boxes = make(torch.cat([corner, corner + torch.rand(250, 2) * 100], 1))
    scores = make(torch.randperm(250))  # distinct in every dtype
    return [nms(boxes, scores, 0.5, offset=offset)[1]]


def roi_align(make, aligned: bool, sampling_ratio: int):
    """Output and gradient, over boxes that lie within the map and across its edges."""
    from mmcv.ops import roi_align

    x = make(torch.randn(2, 16, 40, 60)).requires_grad_()
    corner, size = torch.rand(200, 2) * 300 - 40, torch.rand(200, 2) * 200
    rois = make(torch.cat([torch.randint(2, (200, 1)), corner, corner + size], 1))
    y = roi_align(x, rois, 7, 0.25, sampling_ratio, 'avg', aligned)
    return y, *torch.autograd.grad(y, x, make(torch.randn(y.shape)))


def sigmoid_focal_loss(make, weighted: bool):
    """Output and gradient; without weights a fifth of the rows is background."""
    from mmcv.ops import sigmoid_focal_loss

    x = make(torch.randn(1000, 4) * 3).requires_grad_()
    # mmcv reads beyond its weights for background.
    target = torch.randint(4 if weighted else 5, (1000,)).to(x.device)
    weight = make(torch.rand(4)) if weighted else None
    y = sigmoid_focal_loss(x, target, 2.0, 0.25, weight, 'none')
    return y, *torch.autograd.grad(y, x, make(torch.randn(y.shape)))


CASES = [
    (nms, dict(offset=0)),
    (nms, dict(offset=1)),
    (roi_align, dict(aligned=True, sampling_ratio=0)),
    (roi_align, dict(aligned=True, sampling_ratio=2)),
    (roi_align, dict(aligned=False, sampling_ratio=0)),
    (roi_align, dict(aligned=False, sampling_ratio=2)),
    (sigmoid_focal_loss, dict(weighted=False)),
    (sigmoid_focal_loss, dict(weighted=True)),
]


def run(extension, case, options: dict, device: str, *dtypes: torch.dtype) -> list[Tensor]:
    """A case's results with ``extension`` under mmcv's functions, on values cast to each dtype."""

    def make(tensor: Tensor) -> Tensor:
        for dtype in dtypes:
            tensor = tensor.to(device, dtype)
        return tensor

    torch.manual_seed(0)
    file = case.__name__.removeprefix('sigmoid_')
    with mock.patch.object(importlib.import_module(f'mmcv.ops.{file}'), 'ext_module', extension):
        return case(make, **options)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference relative to the largest value; 0 or infinity between indices."""
    if not theirs.is_floating_point():
        return 0.0 if torch.equal(ours, theirs) else math.inf
    return ((ours.to(theirs) - theirs).abs().max() / theirs.abs().max()).item()


def compare(extension) -> bool:
    """Print a row per case, device and dtype; whether all agree."""
    agree = True
    devices = ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]
    print('| Operator | Device | dtype | Output, gradient differ by | Limit |')
    print('|---|---|---|---|---|')
    for case, options in CASES:
        name = ', '.join([case.__name__, *(f'{key}={value}' for key, value in options.items())])
        for device in devices:
            for dtype, limit in LIMITS.items():
                row = f'| {name} | {device} | {str(dtype).removeprefix("torch.")} |'
                wide = torch.promote_types(dtype, torch.float32)
                try:
                    theirs = run(extension, case, options, device, dtype, wide)
                except RuntimeError as error:
                    print(f'{row} mmcv: {str(error).splitlines()[0]} | |')
                    continue
                ours = run(fallback, case, options, device, dtype)
                found = [difference(*pair) for pair in zip(ours, theirs, strict=True)]
                agree &= all(value <= limit for value in found)
                print(f'{row} {", ".join(f"{value:.1e}" for value in found)} | {limit:.0e} |')
    return agree


def main(argv=None) -> int:
    """Compare; the exit code."""
    parser = argparse.ArgumentParser(prog='python -m mmlolvit.ops.compare', description=__doc__)
    parser.parse_args(argv)
    try:
        extension = importlib.import_module('mmcv._ext')
    except ImportError as error:
        print(f'error: no operators of mmcv load here ({error})', file=sys.stderr)
        return 2
    if ops.supplied():
        print('error: this mmcv has no compiled operators to compare with', file=sys.stderr)
        return 2
    return 0 if compare(extension) else 1


if __name__ == '__main__':
    sys.exit(main())
