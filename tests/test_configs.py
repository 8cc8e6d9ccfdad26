import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('[!_]*/*.py'))
SCOPES = dict(cls='mmpretrain', det='mmdet', seg='mmseg')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_builds_in_its_scope_and_fits_its_name(path):
    cfg = Config.fromfile(path)
    assert cfg.default_scope == SCOPES[path.parent.name]
    name = re.match(r'(?:(.+)_)?lolvit_([a-z]+)_', path.stem)
    assert name, f'{path.name}: a config is named METHOD_lolvit_ARCH_DATASET.py'
    method, arch = name.groups()
    assert cfg.model.backbone.arch == arch
    init_default_scope(cfg.default_scope)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor)).eval()
    if method is None:
        backbone = model.backbone
        assert model.head.in_channels == backbone.out_channels[-1]
        assert model(torch.randn(1, 3, 64, 64)).shape == (1, cfg.model.head.num_classes)


def test_there_are_configs_for_every_arch():
    names = {path.stem for path in CONFIGS}
    for arch in ('xx', 'x', 's'):
        assert {f'lolvit_{arch}_in1k', f'lolvit_{arch}_digits'} <= names
    assert {'lolvit_x_cue_near', 'lolvit_x_cue_far'} <= names
