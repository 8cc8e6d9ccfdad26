"""Handwritten digits: scikit-learn's 1,797 real 8 x 8 images, the stuff of every embedded set."""

import os
import shutil
import uuid
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError

SPLITS = ('train', 'val')
CLASSES = tuple('0123456789')
SIDE = 64


@lru_cache(maxsize=1)
def _samples() -> dict[str, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise UserError(
            f'the embedded data sets are made of the digits in scikit-learn: {error}; '
            'pip install scikit-learn'
        ) from error

    digits = load_digits()
    by_class = np.argsort(digits.target, kind='stable')
    val = np.sort(by_class[::5])
    return dict(
        images=(digits.images * 15.9375).astype(np.uint8),  # 0..16 -> 0..255
        labels=digits.target.astype(np.int64),
        train=np.setdiff1d(by_class, val),
        val=val,
    )


def split_indices(split: str) -> np.ndarray:
    """Numbers of a split's samples in scikit-learn's order: 1,437 'train' or 360 'val', ascending.

    Every fifth sample of each class is held out. This is the only split there is, so that no
    sample is in both parts of any embedded set. Raises ValueError for another split.
    """
    if split not in SPLITS:
        raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
    return _samples()[split]


@lru_cache(maxsize=2)
def load_split(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 8, 8) uint8, bright strokes on black, and labels (n,) int64; both read-only."""
    index = split_indices(split)
    images, labels = _samples()['images'][index], _samples()['labels'][index]
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def enlarge(images: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Bicubic enlargement (..., n, n) -> (..., side, side), uint8.

    In whole numbers, weights in units of 2**-15: the pixels are the same on every machine, which
    image libraries do not promise.
    """
    n = images.shape[-1]
    at = (np.arange(side)[:, None] + 0.5) * n / side - 0.5
    taps = np.floor(at).astype(int) + np.arange(-1, 3)  # (side, 4)
    x = np.abs(at - taps)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.zeros((side, n), np.int64)
    units = np.rint(np.where(x < 1, near, far) * 2**15).astype(np.int64)
    np.add.at(weights, (np.arange(side)[:, None], taps.clip(0, n - 1)), units)
    return np.rint((weights @ images @ weights.T) / 2**30).clip(0, 255).astype(np.uint8)


def build_once(root: str | os.PathLike, write: Callable[[Path], None]) -> Path:
    """Create folder `root` with `write(folder)` unless it is there; it appears whole or not at all.

    Safe among concurrent processes: each writes a folder of its own beside `root`, the first
    rename wins and the others discard theirs. Raises UserError when the folder cannot be written.
    """
    root = Path(root)
    if root.is_dir() and any(root.iterdir()):
        return root
    part = root.with_name(f'.{root.name}-{uuid.uuid4().hex[:8]}')
    try:
        part.mkdir(parents=True)
        write(part)
        os.rename(part, root)
    except OSError as error:
        if not (root.is_dir() and any(root.iterdir())):
            raise UserError(
                f'cannot build the embedded data in {root.absolute()}: {error.strerror or error}. '
                'Run in a folder that you can write to, or point data_root to one.'
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return root


def build_digits(data_root: str | os.PathLike = 'data/digits') -> Path:
    """Build the digits set, `data_root/{train,val}/<class>/<nnnn>.png`, unless it is there.

    Grey 64 x 64 images; nnnn is the sample's number in scikit-learn's order. Raises UserError when
    the folder cannot be written.
    """

    def write(folder: Path) -> None:
        for split in SPLITS:
            for name in CLASSES:
                (folder / split / name).mkdir(parents=True)
            images, labels = load_split(split)
            for number, image, label in zip(
                split_indices(split), enlarge(images), labels, strict=True
            ):
                png = cv2.imencode('.png', image)[1].tobytes()
                (folder / split / CLASSES[label] / f'{number:04d}.png').write_bytes(png)

    return build_once(data_root, write)
