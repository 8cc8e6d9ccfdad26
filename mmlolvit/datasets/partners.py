"""Partners: a digit at either end of a long image; the masks mark both where they are equal.

Reading each digit without the other leaves whether it is marked to chance, at every pixel of it:
marking all digits has half of what it marks wrong. A test of global context for segmentation, our
own; not from the paper.
"""

import os
from pathlib import Path

import cv2
import numpy as np

from .digits import CLASSES, SPLITS, build_once, enlarge, load_split

SHAPE = (64, 640)
LENGTHS = dict(train=1600, val=200)
SIDES = (44, 56)  # of a digit, px, inclusive
ENDS = ((0, 150), (490, 640))  # columns that a digit stays in; 340 px lie between
COLORS = ((32, 32, 230), (230, 64, 32), (32, 210, 64), (32, 200, 220))  # BGR
INK = 96  # of 255: from here on a pixel is the digit's


def draw_partners(split: str, index: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Draw one image; a pure function of its arguments.

    Args:
        split: whose handwritten digits are drawn, 'train' or 'val'.
        index: of the image, from 0 up.

    Returns:
        The image (64, 640, 3) uint8 BGR, the pixels of both digits (64, 640) bool, and whether they
        are partners, half of the time: two samples of one digit in one colour. Those that are not
        differ in both.
    """
    images, labels = load_split(split)
    rng = np.random.default_rng((SPLITS.index(split), index))
    image = np.full((*SHAPE, 3), rng.integers(16, 60), int)
    mask = np.zeros(SHAPE, bool)
    partners = bool(rng.integers(2))
    colors = rng.choice(COLORS, 2, replace=False)
    kinds = rng.choice(len(CLASSES), 2, replace=False)
    for end, (left, right) in enumerate(ENDS):
        which = 0 if partners else end
        side = rng.integers(*SIDES, endpoint=True)
        x, y = rng.integers(left, right - side + 1), rng.integers(SHAPE[0] - side + 1)
        pick = rng.choice(np.flatnonzero(labels == kinds[which]))
        ink = enlarge(images[pick], side).astype(int)
        patch = image[y : y + side, x : x + side]
        patch += (colors[which] - patch) * ink[..., None] // 255
        mask[y : y + side, x : x + side] = ink >= INK
    return image.astype(np.uint8), mask, partners


def build_partners(data_root: str | os.PathLike = 'data/partners') -> Path:
    """Build the images, 1,600 to train and 200 to test, unless they are there.

    In BDD100K's folders: `images/10k/{train,val}/<nnnn>.png` and
    `labels/sem_seg/masks/{train,val}/<nnnn>.png`, 1 where a digit has a partner. Raises UserError
    when the folder cannot be written.
    """

    def write(folder: Path) -> None:
        for split in SPLITS:
            folders = folder / 'images/10k' / split, folder / 'labels/sem_seg/masks' / split
            for part in folders:
                part.mkdir(parents=True)
            for index in range(LENGTHS[split]):
                image, mask, partners = draw_partners(split, index)
                for part, pixels in zip(folders, (image, mask * np.uint8(partners)), strict=True):
                    (part / f'{index:04d}.png').write_bytes(
                        cv2.imencode('.png', pixels)[1].tobytes()
                    )

    return build_once(data_root, write)
