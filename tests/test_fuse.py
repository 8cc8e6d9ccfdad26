import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmlolvit.deploy import fuse
from mmlolvit.models import FWAPlugin, LOLViT
from mmlolvit.models.lolvit import ARCHS

from .test_models import settled

CONFIGS = Path(__file__).parents[1] / 'configs'
DECODERS = [f'seg/{name}_lolvit_x_digits' for name in ('fpn', 'segformer', 'deeplabv3plus')]
LIMITS = {torch.float32: 1e-4, torch.float64: 1e-10}


def tensors_of(outputs) -> Iterator[Tensor]:
    for output in outputs:
        if isinstance(output, Tensor):
            yield output
        else:
            yield from tensors_of(output)


@torch.no_grad()
def difference(a: Callable, b: Callable, dtype: torch.dtype) -> float:
    x = torch.randn(2, 3, 70, 130, dtype=dtype)
    pairs = list(zip(tensors_of(a(x)), tensors_of(b(x)), strict=True))
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


@pytest.mark.parametrize(
    'config', ['det/ssdlite_lolvit_x_digits', 'det/mask-rcnn_lolvit_x_digits', *DECODERS]
)
def test_whole_detectors_and_decoders(config):
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIGS / f'{config}.py')
    init_default_scope(cfg.default_scope)
    model = settled(MODELS.build(cfg.model))
    fused = fuse(copy.deepcopy(model))
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    forward = dict(det='extract_feat', seg='_forward')[config[:3]]
    assert difference(getattr(model, forward), getattr(fused, forward), torch.float32) < 1e-4


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
