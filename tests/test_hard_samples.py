"""What real data holds besides good samples: images of all sizes, without an object, ignored."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.runner import Runner

from .real_data import jpeg
from .test_configs import metrics_of, with_small_data

ROOT = Path(__file__).parents[1]
DETECTORS = ['retinanet', 'fcos', 'ssdlite', 'mask-rcnn']
DECODERS = ['fpn', 'segformer', 'deeplabv3plus']


def train_step(runner):
    loop = runner.train_loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    return runner.model.train_step(next(iter(loop.dataloader)), runner.optim_wrapper)


@pytest.mark.parametrize('method', DETECTORS)
def test_detectors_train_on_images_without_an_object(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = with_small_data(ROOT / f'configs/det/{method}_lolvit_x_coco.py')
    empty = 2  # of the three images that the COCO tree has
    cfg.train_dataloader.dataset.update(filter_cfg=None, indices=[empty, empty])
    runner = Runner.from_cfg(cfg)
    assert len(runner.train_loop.dataloader.dataset) == 2
    assert train_step(runner)['loss'].isfinite()
    assert all(p.isfinite().all() for p in runner.model.parameters())


@pytest.mark.parametrize(
    'method, threshold',
    [('retinanet', 'model.test_cfg.score_thr'), ('mask-rcnn', 'model.test_cfg.rcnn.score_thr')],
)
def test_detectors_take_images_of_all_sizes_in_a_batch(method, threshold, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = ROOT / f'configs/det/{method}_lolvit_x_coco.py'
    cfg = with_small_data(path)
    sizes = [(480, 640), (333, 501), (640, 427)]
    for split in ('train', 'val'):
        file = Path(cfg.data_root, f'annotations/instances_{split}2017.json')
        coco = json.loads(file.read_text())
        for image, (height, width) in zip(coco['images'], sizes, strict=True):
            image.update(height=height, width=width)
            target = Path(cfg.data_root, f'{split}2017', image['file_name'])
            target.write_bytes(jpeg(height, width, image['id'], split))
        file.write_text(json.dumps(coco))
    cfg.train_dataloader.batch_sampler = None  # which would keep wide and high ones apart
    cfg.test_dataloader.batch_size = 3
    cfg.merge_from_dict({threshold: 0.0})  # hardly trained, it is sure of nothing
    runner = Runner.from_cfg(cfg)
    assert train_step(runner)['loss'].isfinite()
    assert metrics_of(path) <= set(runner.test())


@pytest.mark.parametrize('method', DECODERS)
def test_decoders_survive_masks_that_ignore_every_pixel(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = with_small_data(ROOT / f'configs/seg/{method}_lolvit_x_bdd100k.py')
    for file in Path(cfg.data_root, 'labels/sem_seg/masks').rglob('*.png'):
        cv2.imwrite(str(file), np.full((720, 1280), 255, np.uint8))
    runner = Runner.from_cfg(cfg)
    assert train_step(runner)['loss'] == 0
    assert all(p.isfinite().all() for p in runner.model.parameters())
