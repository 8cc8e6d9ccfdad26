"""Samples that cannot be learned from end a run with the file's name; none is lost unnoticed."""

import copy
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import TestTimeAug
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

from ..engine.secrecy import hide_in_log, hide_secrets
from ..errors import UserError
from ..images import require_file, why_unreadable

LOG_SIZE = 50 * 2**20  # bytes of a log; then it begins anew, and the one before is kept
TIMEOUT = 600  # s that a batch may take to load, unless the config's loader says `timeout`


class BadSample(UserError):
    """A sample that cannot be learned from.

    `fault` says why, the same for all samples of one kind, `where` which file it is, and `mend`
    what to do.
    """

    def __init__(self, fault: str, where: str = '', mend: str = ''):
        super().__init__(f'{fault}: {where}\n{mend}' if where else fault)
        self.fault, self.where, self.mend = fault, where, mend


class GuardedRunner(Runner):
    """MMEngine's runner; its data sets and samples that cannot be learned from raise UserError."""

    folders = None  # of the classes, in the data set that was built first
    memory_format = torch.preserve_format
    latest = ''  # timestamp of the process's last runner

    def __init__(self, *args, cfg: Config, **kwargs):
        cfg = copy.deepcopy(cfg)  # what is logged, and saved; all is built from the rest
        hide_secrets(cfg._cfg_dict)
        super().__init__(*args, cfg=cfg, **kwargs)

    def setup_env(self, env_cfg):
        super().setup_env(env_cfg)
        # MMEngine finds a run's log, curves and scope by config and second; a quick one before
        # would be given what ours says.
        while self.timestamp == GuardedRunner.latest:
            time.sleep(0.1)
            super().setup_env(env_cfg)
        GuardedRunner.latest = self.timestamp

    def set_randomness(self, seed, **options):
        if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**32):
            raise UserError(f'randomness.seed: expected a whole number below 2^32, got {seed!r}')
        super().set_randomness(seed, **options)

    def train(self):
        try:
            return super().train()
        finally:
            end_processes(self._train_loop, self._val_loop)

    def test(self):
        try:
            return super().test()
        finally:
            end_processes(self._test_loop)

    def build_logger(self, *args, **kwargs):
        rotation = dict(
            type='RotatingFileHandler', maxBytes=LOG_SIZE, backupCount=1, encoding='utf-8'
        )
        logger = super().build_logger(*args, file_handler_cfg=rotation, **kwargs)
        logger.addFilter(hide_in_log)
        for handler in logger.handlers:
            if isinstance(handler, RotatingFileHandler):
                handler.handleError = partial(raise_full, handler)
        return logger

    def build_dataloader(self, dataloader, seed=None, diff_rank_seed=False):
        if dataloader.get('num_workers'):
            dataloader = dict(dict(timeout=TIMEOUT), **dataloader)
        loader = super().build_dataloader(dataloader, seed, diff_rank_seed)
        for dataset in find_base(loader.dataset):
            folders = getattr(dataset, 'folder_to_idx', None)
            self.folders = self.folders or folders
            wrong = compare_heads(self.cfg, dataset) or compare_folders(self.folders, folders)
            if wrong:
                raise UserError(wrong)
            guard(dataset, self.cfg)
        return loader

    def wrap_model(self, model_wrapper_cfg, model):
        sync_bn = self.cfg.get('sync_bn')
        if sync_bn not in (None, 'torch', 'mmcv'):
            raise UserError(f"sync_bn must be None, 'torch' or 'mmcv', got {sync_bn!r}")
        model = model.to(memory_format=self.memory_format)
        if not self.distributed or get_device() != 'cpu':
            return super().wrap_model(model_wrapper_cfg, model)
        # On CPUs there is no SyncBatchNorm, and a process has no device of its own.
        defaults = dict(
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get('find_unused_parameters', False),
        )
        wrapper = dict(model_wrapper_cfg or defaults)
        wrapper.setdefault('type', 'MMDistributedDataParallel')
        return MODEL_WRAPPERS.build(wrapper, default_args=dict(module=revert_sync_batchnorm(model)))


def raise_full(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Let a log that cannot be written end a run, as a record of its curves does."""
    if isinstance(sys.exc_info()[1], OSError):
        raise
    type(handler).handleError(handler, record)


def end_processes(*loops) -> None:
    """End those that load data for MMEngine's loops; Python's garbage collector takes 5 s for each.

    It closes the queues that PyTorch tells them by, and PyTorch then waits for an answer.
    """
    for loop in loops:
        loader = getattr(loop, 'dataloader', None)  # a loop that was not built is a dict
        if isinstance(loader, DataLoader):
            loop.dataloader_iterator = loader._iterator = None


def find_base(dataset) -> Iterator:
    """The data sets inside wrappers, which hold one as `dataset` or several as `datasets`."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
    else:
        for part in inner:
            yield from find_base(part)


def compare_heads(cfg, dataset) -> str | None:
    """Which head of the model does not fit the classes of a data set, in words, or None.

    A head may have more classes than the data, but not one of mmdet's boxes: CocoMetric has no id
    for them.
    """
    classes, detects = find_labels(dataset), cfg.get('default_scope') == 'mmdet'
    for key, number in find_sizes({key: cfg.get(key) for key in ('model', 'data_preprocessor')}):
        needless = detects and 'bbox_head' in key and number > len(classes) > 0
        if number < len(classes) or needless:
            return (
                f'{key}={number}, but {type(dataset).__name__} has {len(classes)} classes; '
                f'set {key}={len(classes)} in the config'
            )
    return None


def compare_folders(expected: dict | None, folders: dict | None) -> str | None:
    """How the class folders of two data sets differ, in words; None where they do not."""
    if not (expected and folders) or expected == folders:
        return None
    missing, added = (
        sorted(a.keys() - b)[:5] for a, b in ((expected, folders), (folders, expected))
    )
    return (
        'class folders differ between the data sets, so that labels mean different classes: '
        f'missing {", ".join(missing) or "none"}, added {", ".join(added) or "none"}; '
        'for a class without an image, make an empty folder'
    )


def check_order(classes: Sequence[str], dataset) -> None:
    """Raise UserError where a class of the data has another number in a model."""
    for base in find_base(dataset):
        for number, name in enumerate(getattr(base, 'metainfo', {}).get('classes') or ()):
            if name in classes and name not in classes[number : number + 1]:  # some occur twice
                raise UserError(
                    f'class {name!r} has the number {number} in the data set, and '
                    f'{classes.index(name)} in the model; give the data the classes of the '
                    'training, in their order, and an empty folder for one without an image: '
                    f'{", ".join(map(str, classes))}'
                )


def find_labels(dataset) -> tuple[str, ...]:
    """What the labels 0, 1, ... of a data set stand for: its class folders or classes, if known."""
    info = getattr(dataset, 'metainfo', {})
    if 'stuff_classes' in info:  # panoptic: a head for things and one for stuff
        return ()
    return tuple(getattr(dataset, 'folder_to_idx', None) or info.get('classes') or ())


def find_sizes(node, key: str = '') -> Iterator[tuple[str, int]]:
    """Every num_classes in a config by its key, but that of a region proposal head."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for name, value in items:
        path = f'{key}.{name}'.lstrip('.')
        if name == 'num_classes' and isinstance(value, int) and value > 0:
            yield path, value
        elif isinstance(value, dict | list) and name != 'rpn_head':
            yield from find_sizes(value, path)


def guard(dataset, cfg) -> None:
    """Let a data set raise BadSample; one that has no pipeline of its own is left alone."""
    if isinstance(getattr(dataset, 'pipeline', None), Compose):
        sizes = [number for _, number in find_sizes(cfg.model)]
        num_classes = len(find_labels(dataset)) or min(sizes, default=None)
        ignored = getattr(dataset, 'ignore_index', 255)
        dataset.pipeline = GuardedPipeline(dataset.pipeline, num_classes, ignored)


class GuardedPipeline(Compose):
    """A pipeline whose loading transforms raise BadSample, also where they would load nonsense."""

    def __init__(self, pipeline: Compose, num_classes: int | None, ignore_index: int):
        self.transforms = pipeline.transforms
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        for transform in self.transforms:
            if isinstance(transform, TestTimeAug):
                transform.subroutines = [
                    GuardedPipeline(routine, num_classes, ignore_index)
                    for routine in transform.subroutines
                ]

    def __call__(self, data: dict) -> dict | None:
        for transform in self.transforms:
            name, path = type(transform).__name__, data.get('img_path')
            try:
                source = find_source(name, data)[1] if name.startswith('Load') else None
                if source and os.path.exists(source):
                    require_file(source)
                loaded = transform(data)
            except Exception as error:
                if not name.startswith('Load'):
                    error.add_note(f'The sample: {path}')
                    raise
                raise cannot_load(name, data, error) from error
            if loaded is None:  # an augmentation may refuse a sample, to be given another
                if name.startswith('Load'):
                    print(f'warning: cannot read {path}: left out', file=sys.stderr)
                return None
            data = loaded
            if name.startswith('Load'):
                self.check(data)
        return data

    def check(self, data: dict) -> None:
        """Raise BadSample for a label, mask size or mask id that does not fit what is known."""
        mask, path = data.get('gt_seg_map'), data.get('seg_map_path')
        if mask is not None and mask.shape != data['ori_shape']:
            sizes = (' x '.join(map(str, shape)) for shape in (mask.shape, data['ori_shape']))
            raise BadSample(
                'mask of another size than its image',
                '{} is {}, the image {}'.format(path, *sizes),
                'a mask has the height and width of its image and one channel of class ids',
            )
        if self.num_classes is None:
            return
        expected = f'{self.num_classes} classes: expected 0 to {self.num_classes - 1}'
        labels = np.atleast_1d(data.get('gt_label', []))
        if labels.dtype.kind in 'iu':
            fits = np.isin(labels, range(self.num_classes)).all()
        else:  # text, or a number that is too large for NumPy; others are no indices
            fits = not any(isinstance(label, int | str) for label in labels.tolist())
        if not fits:
            where = f'{data["img_path"]} has {str(data["gt_label"])[:50]}'
            raise BadSample('label out of range', where, expected)
        if mask is not None and 'seg_fields' in data:  # mmseg's
            ids = np.flatnonzero(np.bincount(mask.ravel()))
            wrong = ids[(ids >= self.num_classes) & (ids != self.ignore_index)].tolist()
            if Path(path).is_file() and (top := find_wide_id(path)):
                wrong.append(top)
            if wrong:
                where = f'{path} has {", ".join(map(str, wrong[:5]))}'
                expected += f', or {self.ignore_index} where a pixel has none'
                raise BadSample('mask ids out of range', where, expected)


def find_source(name: str, data: dict) -> tuple[str, str | None]:
    """What a loading transform of this name loads, in a word, and the path that it reads."""
    kind = 'image' if 'Image' in name else 'mask' if data.get('seg_map_path') else 'annotation'
    return kind, data.get('seg_map_path' if kind == 'mask' else 'img_path')


def cannot_load(name: str, data: dict, error: Exception) -> BadSample:
    """The BadSample for what a loading transform of this name raised on a sample."""
    kind, path = find_source(name, data)
    if kind == 'annotation':
        where = f'{path} ({type(error).__name__}: {error})'
        return BadSample('annotation cannot be used', where, 'correct it in the annotation file')
    reason = getattr(error, 'strerror', None)
    if not reason and Path(path or '').is_file():
        path = f'{path}: {why_unreadable(path)}'
    return BadSample(
        f'{kind} cannot be read: {reason}' if reason else f'{kind} cannot be decoded',
        path,
        'copy or convert the file again, or take the sample out of the data set',
    )


def find_wide_id(path: str) -> int | None:
    """The largest id of a mask file if a byte does not hold it: mmseg would cut it to one."""
    with Image.open(path) as mask:
        if mask.mode[0] not in 'IF':  # of 8 bits; nothing but the header has been read
            return None
        top = int(np.max(mask))
    return top if top > 255 else None
