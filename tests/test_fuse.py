import copy

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.registry import MODELS
from torch import nn

from mmlolvit.deploy import fuse
from mmlolvit.models import FWAPlugin, LOLViT
from mmlolvit.models.lolvit import ARCHS

from .test_models import settled

LIMITS = {torch.float32: 1e-4, torch.float64: 1e-10}


@torch.no_grad()
def difference(a: nn.Module, b: nn.Module, dtype: torch.dtype) -> float:
    x = torch.randn(2, 3, 70, 130, dtype=dtype)
    pairs = list(zip(a(x), b(x), strict=True))
    return max(((i - j).abs().max() / i.abs().max()).item() for i, j in pairs)


@pytest.mark.parametrize('dtype', LIMITS, ids=str)
@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('fwa_cfg', [{}, dict(aggregation='mean', score='softmax'), dict(window=1)])
def test_outputs_stay_equal(arch, fwa_cfg, dtype):
    torch.manual_seed(0)
    model = settled(LOLViT(arch, (0, 1, 2, 3), fwa_cfg=fwa_cfg)).to(dtype)
    fused = fuse(copy.deepcopy(model))
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert difference(model, fused, dtype) < LIMITS[dtype]
    assert difference(fused, fuse(copy.deepcopy(fused)), dtype) == 0
    assert difference(model, fuse_conv_bn(copy.deepcopy(model)), dtype) < LIMITS[dtype]


def test_a_whole_classifier():
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmlolvit.LOLViT', arch='xx'),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=10,
                in_channels=ARCHS['xx']['channels'][-1],
            ),
        )
    )
    settled(model.backbone)
    model.eval()
    fused = fuse(copy.deepcopy(model))
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert difference(model, fused, torch.float32) < 1e-4


def test_the_plugin_layer():
    torch.manual_seed(0)
    plugin = settled(nn.Sequential(nn.Conv2d(3, 8, 1), FWAPlugin(8)))
    x = torch.randn(2, 3, 13, 20)
    with torch.no_grad():
        want, got = plugin(x), fuse(copy.deepcopy(plugin))(x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_says_which_norm_remains():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1))
    with pytest.warns(UserWarning, match=r"1 BatchNorm left.*\['0'\]"):
        fuse(model)
