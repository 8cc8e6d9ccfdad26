"""Learning rate and momentum over a training that is not run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.optim import Optimizer

from ..cli.data import check_sources
from ..datasets import ensure_embedded
from ..errors import UserError


@dataclass(frozen=True)
class Schedule:
    """What an optimizer works with in each iteration.

    Attributes:
        lr, momentum (ndarray): (iterations, groups).
        tensors (list[int]): How many of the model's parameter tensors each group has.
        per_epoch (int | None): Iterations an epoch; None for a loop by iterations.
    """

    lr: np.ndarray
    momentum: np.ndarray
    tensors: list[int]
    per_epoch: int | None


def run_schedule(cfg: Config, model: nn.Module) -> Schedule:
    """Step the config's parameter schedulers, as MMEngine's Runner builds them, through a training.

    Of one process, and with ``auto_scale_lr`` where the config enables it. Parameters of equal
    settings are one group. The data set is built only where its length is needed: for a loop by
    epochs, and for schedulers that count epochs.

    Raises:
        UserError: For several optimizers, a loop whose length the config does not say, and a
            scheduler that waits for a metric.
    """
    init_default_scope(cfg.default_scope)
    settings = cfg.get('param_scheduler') or []
    settings = settings if isinstance(settings, Sequence) else [settings]
    loop = cfg.train_cfg
    by_epoch = 'max_epochs' in loop
    if not isinstance(loop.get('max_epochs', loop.get('max_iters')), int):
        raise UserError(f'train_cfg needs max_epochs or max_iters, got {dict(loop)}')
    per_epoch = None
    if by_epoch or any(item.get('by_epoch', True) for item in settings):
        ensure_embedded(cfg)
        check_sources(cfg, 'train_dataloader')
        loader = dict(cfg.train_dataloader, num_workers=0, persistent_workers=False)
        per_epoch = len(Runner.build_dataloader(loader, seed=0))
    max_iters = loop.max_epochs * per_epoch if by_epoch else loop.max_iters

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    if not hasattr(wrapper, 'optimizer'):
        raise UserError('optim_wrapper: expected one optimizer, the config has several')
    optimizer = wrapper.optimizer
    if (cfg.get('auto_scale_lr') or {}).get('enable'):
        for group in optimizer.param_groups:
            group['lr'] *= cfg.train_dataloader.batch_size / cfg.auto_scale_lr.base_batch_size
    tensors = merge_groups(optimizer)
    schedulers = []
    for item in settings:
        end = loop.get('max_epochs', 1) if item.get('by_epoch', True) else max_iters
        scheduler = PARAM_SCHEDULERS.build(
            {'end': end, **item}, default_args=dict(optimizer=wrapper, epoch_length=per_epoch)
        )
        if getattr(scheduler, 'need_val_args', False):
            raise UserError(f'{item["type"]} follows a metric, which only a training can tell')
        schedulers.append(scheduler)

    optimizer.step()  # nothing has a gradient; schedulers complain where it was not called before
    lr, momentum = (np.empty((max_iters, len(tensors))) for _ in range(2))
    for i in range(max_iters):
        for column, group in enumerate(optimizer.param_groups):
            lr[i, column], momentum[i, column] = group['lr'], find_momentum(group)
        ends_epoch = by_epoch and (i + 1) % per_epoch == 0
        for scheduler in schedulers:
            if not scheduler.by_epoch or ends_epoch:
                scheduler.step()
    return Schedule(lr, momentum, tensors, per_epoch if by_epoch else None)


def merge_groups(optimizer: Optimizer) -> list[int]:
    """Make one parameter group of those that schedulers treat alike; how many tensors each has.

    ``paramwise_cfg`` gives every parameter a group of its own, each of which would be stepped.
    """
    groups = {}
    for group in optimizer.param_groups:
        key = group['lr'], find_momentum(group)
        if key in groups:
            groups[key]['params'].extend(group['params'])
        else:
            groups[key] = group
    optimizer.param_groups[:] = groups.values()
    return [len(group['params']) for group in groups.values()]


def find_momentum(group: dict) -> float:
    """Of SGD, or the first beta of Adam; NaN where an optimizer has none."""
    return group.get('momentum', group.get('betas', (np.nan,))[0])
