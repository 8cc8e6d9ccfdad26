"""The operators of ``mmcv._ext`` that our configs call, without a compiler.

The signatures, and results written into the caller's tensors, are those that mmcv's Python wrappers
(``mmcv/ops/{nms,roi_align,focal_loss}.py``) expect. All run on any device that torchvision serves.
Inputs below float32 are computed in float32. Every other operator raises ``MissingOpError``.
"""

import importlib

import torch
from torch import Tensor
from torch.nn import functional as F

from mmlolvit.errors import UserError

__all__ = [
    'get_compiler_version',
    'get_compiling_cuda_version',
    'nms',
    'roi_align_backward',
    'roi_align_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
]


class MissingOpError(UserError, NotImplementedError):
    """An operator that only a compiled mmcv has."""


def missing_op(name: str):
    """What ``mmcv._ext`` answers for an operator that is not in this file.

    mmcv asserts at import that every operator exists, so this one does, and raises
    ``MissingOpError`` when it is called. Private names raise ``AttributeError``.
    """
    if name.startswith('_'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def missing(*args, **kwargs):
        raise MissingOpError(
            f'{name}: this mmcv has no compiled operators, and mmlolvit stands in only for nms, '
            "roi_align with pool_mode='avg' and sigmoid_focal_loss. Use a model that does without "
            'it, or install mmcv with its compiled operators: with torch, setuptools 80 and a '
            'C++ compiler in place, reinstall the full mmcv package of your stack (not its lite '
            'edition) with pip install --no-build-isolation --no-cache-dir --force-reinstall '
            '--no-deps.'
        )

    missing.__name__ = missing.__qualname__ = name
    return missing


def get_compiler_version() -> str:
    """For mmcv's ``collect_env``: nothing was compiled."""
    return 'n/a'


get_compiling_cuda_version = get_compiler_version


def torchvision_op(name: str):
    """An operator that torchvision registers; ``MissingOpError`` where it does not load."""
    try:
        importlib.import_module('torchvision')
        return getattr(torch.ops.torchvision, name)
    except Exception as error:  # a torchvision of another build raises whatever it meets first
        raise MissingOpError(
            f'{name}: this mmcv has no compiled operators, and torchvision, which stands in for '
            f'them, does not work here ({error}). Run python -m mmlolvit.doctor.'
        ) from error


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The widest dtype of ``tensors``, float32 at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4), x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: a box whose IoU with a better one is above this goes.
        offset: 0 or 1; a box is x2 - x1 + offset wide.

    Returns:
        (K,) int64, the indices that stay, best score first.
    """
    dtype = compute_dtype(boxes, scores)
    boxes = boxes.to(dtype)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32: an IoU of 3/5 is not above 0.6 there.
    iou_threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    return torchvision_op('nms')(boxes, scores.to(dtype), iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
):
    """RoIAlign (arXiv 1703.06870) by averages, into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (K, 5), image index, x1, y1, x2, y2.
        output: (K, C, aligned_height, aligned_width), overwritten.
        argmax_y, argmax_x: for the maximum only; ignored.
        spatial_scale: what ``rois`` are multiplied by.
        sampling_ratio: samples a bin, each way; 0 takes as many as the bin has pixels.
        pool_mode: 1, the average; 0, the maximum, raises ``MissingOpError``.
        aligned: shift by the half pixel between a pixel's corner and its centre.
    """
    if pool_mode != 1:  # torchvision averages only
        missing_op("roi_align with pool_mode='max'")()
    dtype = compute_dtype(input, rois)
    size = (aligned_height, aligned_width)
    roi_align = torchvision_op('roi_align')
    rois = rois.to(dtype)
    output.copy_(roi_align(input.to(dtype), rois, spatial_scale, *size, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
):
    """The gradient of ``roi_align_forward`` into ``grad_input``, (B, C, H, W), overwritten."""
    dtype = compute_dtype(grad_output, rois)
    size = (aligned_height, aligned_width, *grad_input.shape)
    backward = torchvision_op('_roi_align_backward')
    grad, rois = grad_output.to(dtype), rois.to(dtype)
    grad_input.copy_(backward(grad, rois, spatial_scale, *size, sampling_ratio, aligned))


def focal_terms(input: Tensor, target: Tensor, weight: Tensor, alpha: float):
    """sign, s = sign * input (the logit of being right) and the loss's factor, each (N, C)."""
    n_classes = input.shape[1]
    hit = target[:, None] == torch.arange(n_classes, device=target.device)
    hit = hit.to(compute_dtype(input))
    sign, scale = 2 * hit - 1, (1 - alpha) + (2 * alpha - 1) * hit
    if weight.numel():
        inside = (target >= 0) & (target < n_classes)
        row = weight.to(hit)[target.clamp(0, n_classes - 1)]
        scale = scale * torch.where(inside, row, torch.ones_like(row))[:, None]
    return sign, sign * input, scale


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
):
    """Sigmoid focal loss (arXiv 1708.02002) into ``output``, without reduction.

    mmcv's formula, except that the logarithm is exact where mmcv's probability rounds to 0 or 1.

    Args:
        input: (N, C) logits.
        target: (N,) int64, the row's class; anything outside 0 .. C - 1 (mmdet's background is C)
            means none of them.
        weight: (C,), a factor for the rows of each class, or empty. Background counts 1; mmcv
            reads beyond the end there.
        output: (N, C), overwritten.
    """
    _, s, scale = focal_terms(input, target, weight, alpha)
    output.copy_(-scale * torch.sigmoid(-s) ** gamma * F.logsigmoid(s))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
):
    """The gradient of ``sigmoid_focal_loss_forward`` into ``grad_input``, (N, C), overwritten."""
    sign, s, scale = focal_terms(input, target, weight, alpha)
    wrong = torch.sigmoid(-s)
    slope = wrong - gamma * torch.sigmoid(s) * F.logsigmoid(s)
    grad_input.copy_(-sign * scale * wrong**gamma * slope)
