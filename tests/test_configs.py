import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmlolvit.cli.test import use_tta
from mmlolvit.datasets import ensure_embedded

from .real_data import write_bdd100k, write_coco, write_imagenet

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    p for task in ('cls', 'det', 'seg') for p in (ROOT / 'configs' / task).glob('*.py')
)
SCOPES = dict(cls='mmpretrain', det='mmdet', seg='mmseg')
METRICS = dict(cls={'accuracy/top1'}, det={'coco/bbox_mAP'}, seg={'mIoU'})


def metrics_of(path: Path) -> set[str]:
    """What a config's evaluation must report."""
    masks = {'coco/segm_mAP'} if path.stem.startswith('mask-rcnn') else set()
    return METRICS[path.parent.name] | masks


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
# What a config whose name holds the key changes; the first that fits.
SMALLER = dict(
    in1k={'test_dataloader.dataset.indices': 16},
    ssdlite={'model.test_cfg.score_thr': 0.0},  # untrained, each of its 81 scores is 1 / 81
    coco={
        'train_dataloader.dataset.pipeline.2.scale': (320, 192),
        'test_dataloader.dataset.pipeline.1.scale': (320, 192),
    },
    bdd100k={
        'train_dataloader.dataset.pipeline.3.crop_size': (128, 256),
        'data_preprocessor.size': (128, 256),
    },
    digits={'test_dataloader.dataset.indices': 16},
    partners={'test_dataloader.dataset.indices': 16},
    cue={'test_dataloader.dataset.length': 16},
)


def with_small_data(path: Path) -> Config:
    """A config, changed as by --cfg-options only, and its data in the working directory."""
    cfg = Config.fromfile(path)
    name = path.stem.split('_')[-1]
    if name in REAL_DATA:
        REAL_DATA[name](Path(cfg.data_root))
    cfg.merge_from_dict(next(options for key, options in SMALLER.items() if key in path.stem))
    cfg.work_dir = 'work_dir'
    cfg.train_dataloader.batch_size = 2
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    ensure_embedded(cfg)
    return cfg


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_trains_a_step_and_evaluates_on_its_data(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = Runner.from_cfg(with_small_data(path))
    loop = runner.train_loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    monkeypatch.setattr(runner.optim_wrapper, 'zero_grad', lambda: None)
    losses = runner.model.train_step(next(iter(loop.dataloader)), runner.optim_wrapper)
    assert losses['loss'].isfinite()
    params = [p for p in runner.model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in params)  # as distributed training needs
    assert runner.param_schedulers
    assert metrics_of(path) <= set(runner.test())


TTA = [
    *('lolvit_x_in1k', 'lolvit_x_digits', 'retinanet_lolvit_x_coco', 'fcos_lolvit_x_digits'),
    *('ssdlite_lolvit_x_coco', 'ssdlite_lolvit_x_digits', 'fpn_lolvit_x_bdd100k'),
    *('segformer_lolvit_x_digits',),
]
TTA_SMALLER = dict(
    coco={f'tta_pipeline.1.transforms.0.{i}.scale': (256, 160) for i in range(3)},
    bdd100k={f'tta_pipeline.1.transforms.0.{i}.scale': (128 + 64 * i, 72) for i in range(6)},
)


@pytest.mark.parametrize('path', [p for p in CONFIGS if p.stem in TTA], ids=lambda path: path.stem)
def test_augments_at_test_time(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = with_small_data(path)
    if 'ssdlite' not in path.stem:
        cfg.merge_from_dict(TTA_SMALLER.get(path.stem.split('_')[-1], {}))
    cfg.test_dataloader.dataset.indices = 2
    use_tta(cfg)
    runner = Runner.from_cfg(cfg)
    assert isinstance(runner.model, BaseTTAModel)
    assert metrics_of(path) <= set(runner.test())


ARCHS, X = ('xx', 'x', 's'), ('x',)
# Methods by task, each with its archs on real data; on the embedded sets detectors and decoders
# have arch x, classifiers all.
METHODS = {
    'det/*_coco': dict(retinanet=ARCHS, ssdlite=ARCHS, fcos=X, **{'mask-rcnn': X}),
    'seg/*_bdd100k': dict(fpn=ARCHS, segformer=X, deeplabv3plus=X),
    'det/*_digits': dict.fromkeys(('retinanet', 'ssdlite', 'fcos', 'mask-rcnn'), X),
    'seg/*_digits': dict.fromkeys(('fpn', 'segformer', 'deeplabv3plus'), X),
}


def test_every_config_that_the_readme_names_is_there():
    names = {f'cls/lolvit_{arch}_{data}' for arch in ARCHS for data in ('in1k', 'digits')}
    names |= {'cls/lolvit_x_cue_near', 'cls/lolvit_x_cue_far'}
    for pattern, methods in METHODS.items():
        names |= {
            pattern.replace('*', f'{method}_lolvit_{arch}')
            for method, archs in methods.items()
            for arch in archs
        }
    assert names <= {f'{path.parent.name}/{path.stem}' for path in CONFIGS}
