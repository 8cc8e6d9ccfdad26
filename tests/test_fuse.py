import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmlolvit.deploy import fuse
from mmlolvit.models import FWAPlugin, LOLViT
from mmlolvit.models.lolvit import ARCHS, MECHANISMS

from .test_models import TINY, settled

CONFIGS = Path(__file__).parents[1] / 'configs'
FAMILIES = sorted(str(f.relative_to(CONFIGS)) for f in CONFIGS.glob('*/*lolvit_x_digits.py'))
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


@pytest.mark.parametrize('without', [*MECHANISMS, MECHANISMS], ids=str)
def test_ablated_backbones(without):
    torch.manual_seed(0)
    without = [without] if isinstance(without, str) else without
    model = settled(LOLViT(TINY, (0, 1, 2, 3), without=without))
    fused = fuse(copy.deepcopy(model))
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert difference(model, fused, torch.float32) < LIMITS[torch.float32]


def outputs(model: nn.Module, x: Tensor):
    """Of every module of a model of a task library, before anything is decoded."""
    if not hasattr(model, 'rpn_head'):
        return model(x, mode='tensor')
    maps, heads = model.extract_feat(x), model.roi_head
    boxes = heads.bbox_head(F.adaptive_avg_pool2d(maps[0], heads.bbox_head.roi_feat_size))
    return maps, model.rpn_head(maps), boxes, heads.mask_head(maps[0])


def test_a_family_is_not_forgotten():
    assert len(FAMILIES) >= 8 and {name[:3] for name in FAMILIES} == {'cls', 'det', 'seg'}


@pytest.mark.parametrize('config', FAMILIES)
def test_whole_models(config):
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIGS / config)
    init_default_scope(cfg.default_scope)
    model = settled(MODELS.build(cfg.model))
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)  # a detector's -4.6 would drown the rest
    fused = fuse(copy.deepcopy(model))
    assert not [m for m in fused.modules() if isinstance(m, _BatchNorm)]
    a, b = (functools.partial(outputs, net) for net in (model, fused))
    assert difference(a, b, torch.float32) < 1e-4


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
