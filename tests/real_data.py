"""Tiny data sets in the trees of the real ones."""

import json
from pathlib import Path

import cv2
import numpy as np


def write_imagenet(root: Path) -> None:
    for split in ('train', 'val'):
        for i in range(1000):
            file = root / split / f'n{i:08}/{i}.JPEG'
            file.parent.mkdir(parents=True)
            file.write_bytes(jpeg(300, 280, i, split))


def write_coco(root: Path) -> None:
    from mmdet.datasets import CocoDataset  # after mmlolvit, which supplies mmcv's operators

    names = [dict(id=i + 1, name=name) for i, name in enumerate(CocoDataset.METAINFO['classes'])]
    boxes = [(10, 10, 200, 120), (40, 60, 30, 30)]
    for split in ('train', 'val'):
        images = [dict(id=i, file_name=f'{i}.jpg', height=480, width=640) for i in range(3)]
        annotations = [
            dict(
                id=10 * image['id'] + n + 1,
                image_id=image['id'],
                category_id=n + 1,
                bbox=(x, y, w, h),
                area=w * h,
                iscrowd=0,
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
            )
            for image in images[:2]  # and one with no object
            for n, (x, y, w, h) in enumerate(boxes)
        ]
        for image in images:
            file = root / f'{split}2017' / image['file_name']
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg(image['height'], image['width'], image['id'], split))
        file = root / f'annotations/instances_{split}2017.json'
        file.parent.mkdir(exist_ok=True)
        coco = dict(images=images, annotations=annotations, categories=names)
        file.write_text(json.dumps(coco))


def write_bdd100k(root: Path) -> None:
    mask = np.arange(720 * 1280).reshape(720, 1280) // 50000  # classes 0 to 18
    mask[:100] = 255
    for split in ('train', 'val'):
        images, masks = (root / d / split for d in ('images/10k', 'labels/sem_seg/masks'))
        for i in range(2):
            images.mkdir(parents=True, exist_ok=True)
            masks.mkdir(parents=True, exist_ok=True)
            (images / f'{i}.jpg').write_bytes(jpeg(720, 1280, i, split))
            cv2.imwrite(masks / f'{i}.png', mask.astype(np.uint8))


def jpeg(height: int, width: int, number: int, split: str) -> bytes:
    """A JPEG of noise, another one for each number and split."""
    rng = np.random.default_rng((number, len(split)))
    pixels = cv2.resize(rng.integers(256, size=(8, 8, 3), dtype=np.uint8), (width, height))
    return cv2.imencode('.jpg', pixels)[1].tobytes()
