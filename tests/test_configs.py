import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmlolvit.datasets import ensure_embedded

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


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_takes_a_training_step_on_its_data(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(path)
    if path.stem.endswith('in1k'):
        image = cv2.imencode('.jpg', np.random.default_rng(0).integers(256, size=(300, 280, 3)))[1]
        for i in range(1000):
            file = tmp_path / f'data/imagenet/train/n{i:08}/{i}.JPEG'
            file.parent.mkdir(parents=True)
            file.write_bytes(image)
    cfg.work_dir = str(tmp_path)
    loader = cfg.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    ensure_embedded(cfg)
    runner = Runner.from_cfg(cfg)
    loop = runner.train_loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    losses = runner.model.train_step(next(iter(loop.dataloader)), runner.optim_wrapper)
    assert losses['loss'].isfinite()
    assert runner.param_schedulers


def test_there_are_configs_for_every_arch():
    names = {path.stem for path in CONFIGS}
    for arch in ('xx', 'x', 's'):
        assert {f'lolvit_{arch}_in1k', f'lolvit_{arch}_digits'} <= names
    assert {'lolvit_x_cue_near', 'lolvit_x_cue_far'} <= names
