"""Backbones to measure, by name, in their deploy form."""

import copy

import torch
from mmcv.cnn.utils.fuse_conv_bn import _fuse_conv_bn
from torch import Tensor, nn

from ..deploy import fuse
from ..errors import UserError
from ..models import LOLViT


def build(name: str) -> nn.Module:
    """A backbone in its deploy form, image to last feature map, weights random.

    Args:
        name (str): 'lolvit_x' (ours), 'mmpretrain:' and a name of mmpretrain's, as in
            'mmpretrain:mobilevit-xsmall_3rdparty_in1k', or a name of timm's.

    Raises:
        UserError: If the library that has it does not know it.
        ImportError: If that library is not installed.
    """
    torch.manual_seed(0)
    if name.startswith('lolvit_'):
        backbone = LOLViT(name.removeprefix('lolvit_'))
    elif name.startswith('mmpretrain:'):
        from mmpretrain import get_model, list_models

        name = name.removeprefix('mmpretrain:')
        if name not in list_models():
            raise UserError(f'mmpretrain has no model {name!r}')
        backbone = get_model(name, head=None, neck=None).backbone
    else:
        backbone = _timm(name)
    return fuse_checked(Last(backbone).eval())


class Last(nn.Module):
    """The last map of a backbone that returns several, alone."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone(x)
        return x[-1] if isinstance(x, tuple | list) else x


def _timm(name: str) -> nn.Module:
    import timm
    from timm.utils.model import reparameterize_model

    if not timm.is_model(name):
        raise UserError(f'timm {timm.__version__} has no model {name!r}')
    return reparameterize_model(timm.create_model(name, num_classes=0, global_pool='').eval())


def fuse_checked(model: nn.Module) -> nn.Module:
    """Fold a model's norms, and make sure that its output stayed what it was."""
    x = torch.randn(2, 3, 256, 256)
    with torch.inference_mode():
        want = model(x)
    model = fuse(_fold_norm_act(copy.deepcopy(model)))
    with torch.inference_mode():
        got = model(x)
    error = ((got - want).abs().max() / want.abs().max()).item()
    if not error < 1e-3:
        raise RuntimeError(f'folding changed the output by {error:.1e} of its maximum')
    return model


def _fold_norm_act(module: nn.Module) -> nn.Module:
    """Fold timm's norms that carry their own activation, which mmcv's folding would drop."""
    last = None
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and hasattr(child, 'act') and last is not None:
            _fuse_conv_bn(last, child)
            setattr(module, name, child.act)
        else:
            _fold_norm_act(child)
        last = child if isinstance(child, nn.Conv2d) else None
    return module
