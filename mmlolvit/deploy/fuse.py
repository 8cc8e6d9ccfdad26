"""Fold norms and constants into convolutions, for inference."""

import warnings

import torch
from mmcv.cnn import ConvModule, fuse_conv_bn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..models.fwa import FastWindowAttention
from ..models.ghost import Residual


def fuse(model: nn.Module) -> nn.Module:
    """Fold every BatchNorm, scale and depthwise residual of a model into its convolutions.

    In place and for inference: the model is put into eval mode and its outputs stay equal up to
    rounding. Works on our backbones and on whole models of the task libraries; calling it again
    changes nothing.

    Returns:
        nn.Module: The same model. A warning names the BatchNorms that could not be folded.
    """
    model.eval()
    with torch.no_grad():
        model = _fuse(model)
        fuse_conv_bn(model)
    rest = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if rest:
        warnings.warn(
            f'{len(rest)} BatchNorm left, not next to a convolution: {rest}', stacklevel=2
        )
    return model


def _fuse(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _fuse(child))
    if isinstance(module, ConvModule):
        return _fuse_conv_module(module)
    if isinstance(module, Residual):
        return _fuse_residual(module)
    if isinstance(module, FastWindowAttention):
        return _fuse_attention(module)
    return module


class Affine(nn.Module):
    """``x * scale + shift`` per channel of (B, C, H, W)."""

    def __init__(self, scale: Tensor, shift: Tensor):
        super().__init__()
        self.scale = nn.Parameter(scale[:, None, None])
        self.shift = nn.Parameter(shift[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


def _scale_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The affine map, (C,) and (C,), that a BatchNorm is in eval mode."""
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias if norm.affine else shift


def _conv_like(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    out = nn.utils.skip_init(
        nn.Conv2d,
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        device=weight.device,
        dtype=weight.dtype,
    )
    out.weight.copy_(weight)
    out.bias.copy_(bias)
    return out


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias


def _fuse_conv_module(module: ConvModule) -> nn.Module:
    plain = (
        type(module.conv) is nn.Conv2d
        and module.conv.padding_mode == 'zeros'
        and not module.with_explicit_padding
        and not module.with_spectral_norm
        and module.order == ('conv', 'norm', 'act')
        and (not module.with_norm or isinstance(module.norm, _BatchNorm))
    )
    if not plain:
        return module
    conv = module.conv
    if module.with_norm:
        scale, shift = _scale_shift(module.norm)
        conv = _conv_like(
            conv, conv.weight * scale[:, None, None, None], _bias(conv) * scale + shift
        )
    return nn.Sequential(conv, module.activate) if module.with_activation else conv


def _fuse_residual(module: Residual) -> nn.Module:
    """A residual depthwise 3x3 is a depthwise 3x3 whose middle tap is larger by 1."""
    conv = module.branch
    if not (isinstance(conv, nn.Conv2d) and conv.groups == conv.in_channels == conv.out_channels):
        return module
    weight = conv.weight.clone()
    weight[:, :, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] += 1
    return _conv_like(conv, weight, _bias(conv))


def _fuse_attention(module: FastWindowAttention) -> nn.Module:
    """The norms and 1 / sqrt(d) go into W_q, W_k, one affine map of the windows and a bias."""
    norms = module.in_norm, module.out_norm
    if not all(isinstance(norm, _BatchNorm) for norm in norms):
        return module
    (in_scale, in_shift), (out_scale, out_shift) = map(_scale_shift, norms)
    for name, scale in (('q', module.scale), ('k', 1)):
        conv = getattr(module, name)
        weight = conv.weight * scale
        bias = _bias(conv) * scale + weight.flatten(1) @ in_shift
        setattr(module, name, _conv_like(conv, weight * in_scale[:, None, None], bias))
    module.v = Affine(in_scale * out_scale, in_shift * out_scale)
    module.scale = 1.0
    module.bias = nn.Parameter(out_shift[:, None])
    module.in_norm = module.out_norm = nn.Identity()
    return module
