import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmlolvit.datasets import ensure_embedded

from .real_data import write_bdd100k, write_coco, write_imagenet

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('[!_]*/*.py'))
SCOPES = dict(cls='mmpretrain', det='mmdet', seg='mmseg')
METRICS = dict(cls={'accuracy/top1'}, det={'coco/bbox_mAP', 'coco/segm_mAP'}, seg={'mIoU'})


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


REAL_DATA = dict(in1k=write_imagenet, coco=write_coco, bdd100k=write_bdd100k)
SMALLER = dict(
    in1k={'test_dataloader.dataset.indices': 16},
    coco={
        'train_dataloader.dataset.pipeline.2.scale': (320, 192),
        'test_dataloader.dataset.pipeline.1.scale': (320, 192),
    },
    bdd100k={
        'train_dataloader.dataset.pipeline.3.crop_size': (128, 256),
        'data_preprocessor.size': (128, 256),
    },
    digits={'test_dataloader.dataset.indices': 16},
    cue={'test_dataloader.dataset.length': 16},
)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_trains_a_step_and_evaluates_on_its_data(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(path)
    name = path.stem.split('_')[-1]
    if name in REAL_DATA:
        REAL_DATA[name](Path(cfg.data_root))
    cfg.merge_from_dict(SMALLER.get('cue' if 'cue' in path.stem else name, {}))
    cfg.work_dir = str(tmp_path)
    cfg.train_dataloader.batch_size = 2
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    ensure_embedded(cfg)
    runner = Runner.from_cfg(cfg)
    loop = runner.train_loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    losses = runner.model.train_step(next(iter(loop.dataloader)), runner.optim_wrapper)
    assert losses['loss'].isfinite()
    assert runner.param_schedulers
    assert set(runner.test()) & METRICS[path.parent.name]


def test_there_are_configs_for_every_arch():
    names = {path.stem for path in CONFIGS}
    for arch in ('xx', 'x', 's'):
        assert {f'lolvit_{arch}_in1k', f'lolvit_{arch}_digits'} <= names
    assert {'lolvit_x_cue_near', 'lolvit_x_cue_far'} <= names
