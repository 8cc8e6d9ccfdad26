"""Digit scenes: handwritten digits of many sizes and colours on a smooth ground.

The embedded set of detection and segmentation, frozen: the same pixels for everyone. Our own; not
from the paper.
"""

import json
import os
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .digits import CLASSES, SPLITS, build_once, enlarge, load_split

SIDE = 160
LENGTHS = dict(train=800, val=200)
DIGITS = (3, 8)  # in a scene, inclusive
DIGIT_SIDES = (16, 64)  # px, inclusive
CONTRAST = 60  # grey levels between a digit's colour and the ground under it
OVERLAP = 0.1  # of two boxes, as a part of the smaller one
INK = 96  # of 255: from here on a pixel is the digit's, for masks and boxes
GREY = np.array((0.114, 0.587, 0.299))  # BGR to luminance


def draw_scene(split: str, index: int) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Draw one scene; a pure function of its arguments.

    Args:
        split: whose handwritten digits are drawn, 'train' or 'val'.
        index: of the scene, from 0 up.

    Returns:
        The image (160, 160, 3) uint8 BGR, and per digit its class (0 to 9) and the mask (160, 160)
        bool of its visible pixels, never empty.
    """
    images, labels = load_split(split)
    rng = np.random.default_rng((SPLITS.index(split), index))
    cells = rng.integers(40, 216, size=(3, 1, 1)) + rng.integers(-24, 25, size=(3, 6, 6))
    canvas = enlarge(cells, SIDE).transpose(1, 2, 0).astype(int)
    digits, boxes = [], []
    number = rng.integers(*DIGITS, endpoint=True)
    while len(digits) < number:
        pick, side = rng.integers(len(images)), rng.integers(*DIGIT_SIDES, endpoint=True)
        x, y = rng.integers(SIDE - side + 1, size=2)
        ink = enlarge(images[pick], side).astype(int)
        rows, columns = (np.flatnonzero((ink >= INK).any(axis)) for axis in (1, 0))
        box = np.array((x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1))
        if any(overlap(box, other) > OVERLAP for other in boxes):
            continue
        patch = canvas[y : y + side, x : x + side]
        color = rng.integers(256, size=3)
        while abs((color - patch.mean(axis=(0, 1))) @ GREY) < CONTRAST:
            color = rng.integers(256, size=3)
        patch += (color - patch) * ink[..., None] // 255
        mask = np.zeros((SIDE, SIDE), bool)
        mask[y : y + side, x : x + side] = ink >= INK
        for _, below in digits:
            below &= ~mask
        digits.append((int(labels[pick]), mask))
        boxes.append(box)
    return canvas.astype(np.uint8), digits


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Area that two boxes (x1, y1, x2, y2) share, as a part of the smaller one's."""
    shared = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return shared / min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())


def build_scenes(data_root: str | os.PathLike = 'data/scenes') -> Path:
    """Build the scenes, 800 to train and 200 to test, unless they are there.

    In BDD100K's folders, with COCO files beside: `images/10k/{train,val}/<nnnn>.png`,
    `labels/sem_seg/masks/{train,val}/<nnnn>.png` (0 for the ground, 1 + d for the digit d) and
    `annotations/{train,val}.json` (boxes, areas and instance masks as RLE). Raises UserError when
    the folder cannot be written.
    """

    def write(folder: Path) -> None:
        (folder / 'annotations').mkdir()
        for split in SPLITS:
            image_dir = folder / 'images/10k' / split
            mask_dir = folder / 'labels/sem_seg/masks' / split
            image_dir.mkdir(parents=True)
            mask_dir.mkdir(parents=True)
            images, annotations = [], []
            for index in range(LENGTHS[split]):
                image, digits = draw_scene(split, index)
                semantic = np.zeros((SIDE, SIDE), np.uint8)
                for label, mask in digits:
                    semantic[mask] = 1 + label
                    annotations.append(
                        dict(id=len(annotations) + 1, image_id=index, **annotate(label, mask))
                    )
                name = f'{index:04d}.png'
                images.append(dict(id=index, file_name=name, width=SIDE, height=SIDE))
                for path, pixels in ((image_dir, image), (mask_dir, semantic)):
                    (path / name).write_bytes(cv2.imencode('.png', pixels)[1].tobytes())
            categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES)]
            coco = dict(images=images, annotations=annotations, categories=categories)
            (folder / 'annotations' / f'{split}.json').write_text(json.dumps(coco))

    return build_once(data_root, write)


def annotate(label: int, mask: np.ndarray) -> dict:
    """The fields of a COCO annotation that follow from an instance's mask (H, W) bool."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(
        category_id=label,
        bbox=coco_mask.toBbox(rle).tolist(),
        area=int(mask.sum()),
        iscrowd=0,
        segmentation=dict(rle, counts=rle['counts'].decode()),
    )
