"""Train a model of any task: ``tools/train.py CONFIG``."""

import argparse
import os
import sys
import tempfile
from contextlib import suppress
from functools import partial
from importlib.util import find_spec

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIMIZERS

from ..checkpoints import data_meta, newest_intact, read_training_state, require_equal
from ..datasets import ensure_embedded
from ..doctor import install, installed_distributions
from ..engine.history import BoundedHistory
from ..engine.interrupts import EndOnSignal, Interrupted, start_worker
from ..engine.numbers import BadNumbers, GoBack, guard_numbers
from ..engine.order import SeedIterations, place
from ..engine.record import RecordRun
from ..engine.resume import TakeUp
from ..engine.saving import SafeCheckpointHook, require_folder, use_safe_files
from ..errors import UserError
from ..tasks import Task
from .backbone import (
    check_pretrained,
    find_init,
    find_pretrained,
    keep_norm_eval,
    require_backbone,
    start_backbone,
)
from .common import exits, explain_type, load_run, make_run_parser, take_checkpoint
from .data import check_data
from .distributed import OneModel, leave
from .dry_run import Done, Rehearsal
from .samples import GuardedRunner, check_order


class TrainingRunner(GuardedRunner):
    """GuardedRunner that loses nothing: with our loops, and our hook for checkpoints.

    In the layout in which convolutions train faster, which DDP must be given the model in;
    docs/results.md has by how much.
    """

    memory_format = torch.channels_last
    classes = ()  # of the checkpoint that it goes on from
    gradients = {}  # of a step that is not complete, for its checkpoint

    def build_train_loop(self, loop):
        return super().build_train_loop(place(loop))

    def build_dataloader(self, *args, **kwargs):
        loader = super().build_dataloader(*args, **kwargs)
        check_order(self.classes, loader.dataset)
        if loader.num_workers:
            loader.worker_init_fn = partial(start_worker, loader.worker_init_fn)
        return loader

    def resume(self, filename, *args, **kwargs):
        try:
            super().resume(filename, *args, **kwargs)
            require_settings(self.optim_wrapper)
        except (UserError, OSError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # what is written in a checkpoint may be wrong in any way
            raise UserError(
                f'{filename} cannot be resumed from: its optimizer, schedules or logs do not fit '
                f'the config ({type(error).__name__}: {error}). Start from its weights alone: '
                f'--cfg-options load_from={filename}'
            ) from error

    def load_checkpoint(self, *args, **kwargs):
        checkpoint = super().load_checkpoint(*args, **kwargs)
        checkpoint.get('meta', {}).pop('config', None)  # MMEngine would run it
        return checkpoint

    def register_hook(self, hook, priority=None):
        if isinstance(hook, dict):
            kind = hook.get('type')
            if kind in (CheckpointHook, 'CheckpointHook', 'mmengine.CheckpointHook'):
                hook = dict(hook, type=SafeCheckpointHook)
        super().register_hook(hook, priority)


@exits
def main(argv: list[str] | None = None) -> int:
    parser = make_run_parser('Train a model.')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='',
        metavar='CKPT',
        help='go on from CKPT; without it from the newest intact checkpoint in the work dir, '
        'and from the start where there is no checkpoint',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision; bfloat16 on a CPU')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate from the config's base_batch_size to the real batch size",
    )
    parser.add_argument(
        '--backbone-checkpoint', metavar='CKPT', help="start from a classifier's backbone"
    )
    parser.add_argument(
        '--tensorboard', action='store_true', help='write events, for tensorboard --logdir WORK_DIR'
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='build all, make a few steps and validate a batch, and report time, memory, disk and '
        'what looks wrong; nothing is kept',
    )
    take_checkpoint(parser, None)
    args = parser.parse_args(argv)
    cfg, task = load_run(args, ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'))
    if args.tensorboard:
        use_tensorboard(cfg, task)
    ensure_embedded(cfg)
    check_data(cfg, 'train_dataloader', 'val_dataloader')
    check_optimizer(cfg)
    check_length(cfg)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
    use_cpu_amp(cfg)
    if args.auto_scale_lr:
        enable_lr_scaling(cfg)
    if args.backbone_checkpoint:
        start_backbone(cfg, args.backbone_checkpoint)
    guard, signals = guard_numbers(cfg), EndOnSignal()
    use_safe_files()
    if args.dry_run:
        return rehearse(cfg, args, task)
    while True:
        runner = build(cfg, args, task)
        hooks = [SeedIterations(), guard, OneModel(), RecordRun(argv), BoundedHistory(), signals]
        for hook in (*hooks, TakeUp()):
            runner.register_hook(hook)
        try:
            with signals.listening():
                runner.train()
            leave()
            return 0
        except Interrupted as end:
            if is_main_process():
                print(f'saved {end.path}; go on with --resume', file=sys.stderr)
            leave()
            return 128 + end.number
        except OSError:
            require_folder(cfg.work_dir)
            raise
        except GoBack as back:
            saved = [hook.saved for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
            start = cfg.load_from if cfg.get('resume') else None
            args.resume = next(filter(None, saved), start)
            place = f'to {args.resume}' if args.resume else 'to its start'
            runner.logger.warning(f'{back.message}\nTraining goes back {place}.')
            guard.left_out.add(back.number)


def require_settings(wrapper) -> None:
    """Raise KeyError where an optimizer was given the settings of another one."""
    wrappers = [wrapper] if isinstance(wrapper, OptimWrapper) else wrapper.values()
    for optimizer in (wrapper.optimizer for wrapper in wrappers):
        for group in optimizer.param_groups:
            if absent := optimizer.defaults.keys() - group.keys():
                raise KeyError(f'{type(optimizer).__name__} needs {", ".join(sorted(absent))}')


def rehearse(cfg: Config, args: argparse.Namespace, task: Task) -> int:
    """What --dry-run does: a training that ends after a few steps, in a folder that goes."""
    rehearsal = Rehearsal(cfg.work_dir)
    args.resume = find_checkpoint(cfg, args.resume)
    with tempfile.TemporaryDirectory() as cfg.work_dir:
        runner = build(cfg, args, task)
        for hook in (SeedIterations(), BadNumbers(), OneModel(), rehearsal):
            runner.register_hook(hook)
        with suppress(Done):
            runner.train()
            rehearsal.warnings.append('no step is left to make')
        rehearsal.warnings += filter(None, [describe_random_start(cfg, args, task)])
        main_process = is_main_process()
        leave()
    if main_process:
        with suppress(OSError):  # the work dir, unless something is in it
            os.rmdir(rehearsal.folder)
        print('\n'.join(rehearsal.report))
        print('\n'.join(f'warning: {warning}' for warning in rehearsal.warnings) or 'no doubts')
    return 0


def build(cfg: Config, args: argparse.Namespace, task: Task) -> TrainingRunner:
    """The runner of a training that begins or goes on, with weights that are known to fit."""
    pretrained = find_pretrained(cfg)
    checkpoint = find_start(cfg, args.resume)
    runner = TrainingRunner.from_cfg(cfg)
    if checkpoint:
        require_equal(runner.model, checkpoint['state_dict'], cfg.load_from)
        runner.classes = tuple(data_meta(checkpoint['meta']).get('classes') or ())
    elif cfg.get('load_from'):
        require_backbone(runner.model, cfg.load_from)
    elif pretrained:
        runner.logger.info(check_pretrained(runner.model, **pretrained))
    elif words := describe_random_start(cfg, args, task):
        runner.logger.warning(words)
    return runner


def describe_random_start(cfg: Config, args: argparse.Namespace, task: Task) -> str | None:
    """That a backbone starts from random weights where it could start from a classifier's."""
    if not task.starts_from_classifier or cfg.get('load_from') or find_init(cfg):
        return None
    return (
        'The backbone starts from random weights. To start from those of a trained '
        f'classifier: python tools/train.py {args.config} --backbone-checkpoint CKPT'
    )


def check_optimizer(cfg: Config) -> None:
    """Raise UserError for an unknown optimizer; MMEngine stumbles over it without its name."""
    name = (cfg.optim_wrapper.get('optimizer') or {}).get('type')
    with OPTIMIZERS.switch_scope_and_registry(cfg.default_scope) as registry:
        if isinstance(name, str) and registry.get(name) is None:
            raise UserError(explain_type(name, 'optimizer'))


def check_length(cfg: Config) -> None:
    """Raise UserError for a training of no step, which schedules and loops stumble over."""
    keys = ['max_epochs', 'max_iters'] + ['val_interval'] * bool(cfg.get('val_dataloader'))
    for key in keys:
        value = cfg.train_cfg.get(key, 1)
        if not (isinstance(value, int | float) and value >= 1):
            raise UserError(f'train_cfg.{key}: expected a number from 1, got {value!r}')


def use_cpu_amp(cfg: Config) -> None:
    """Where there is no accelerator, put our wrapper in AmpOptimWrapper's place."""
    options = cfg.optim_wrapper
    if options.get('type') == 'AmpOptimWrapper' and get_device() == 'cpu':
        options.type = 'mmlolvit.cli.amp.CpuAmpOptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            options.pop(key, None)


def enable_lr_scaling(cfg: Config) -> None:
    """Let the learning rate follow the batch size; UserError where the config has no base."""
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise UserError(
            '--auto-scale-lr needs the batch size that the learning rate is meant for: '
            'add auto_scale_lr = dict(base_batch_size=...) to the config'
        )
    cfg.auto_scale_lr.enable = True


def use_tensorboard(cfg: Config, task: Task) -> None:
    """Let the visualizer write events too; UserError where tensorboard is not installed."""
    if not find_spec('tensorboard'):
        command = install('tensorboard', installed_distributions())
        raise UserError(f'--tensorboard: tensorboard is not installed: {command}')
    cfg.visualizer = cfg.get('visualizer') or dict(type=task.visualizer)
    backends = cfg.visualizer.get('vis_backends') or [dict(type='LocalVisBackend')]
    if 'TensorboardVisBackend' not in str(backends):
        backends = [*backends, dict(type='TensorboardVisBackend')]
    cfg.visualizer.vis_backends = backends


def find_checkpoint(cfg: Config, resume: str | None) -> str | None:
    """What --resume names: a checkpoint, '' for the newest intact one, or None for a new run."""
    if resume != '':
        return resume
    found = [newest_intact(cfg.work_dir) if is_main_process() else None]
    broadcast_object_list(found)  # a process that does not see it ends with an error
    return found[0]


def find_start(cfg: Config, resume: str | None) -> dict | None:
    """Set where training starts; the checkpoint that must fit the model if it is resumed."""
    path = find_checkpoint(cfg, resume)
    if not path:
        return None
    checkpoint = read_training_state(path)
    cfg.load_from, cfg.resume = path, True
    keep_norm_eval(cfg, checkpoint)
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:  # MMEngine restores it too late for the order of the data
        cfg.randomness = dict(randomness, seed=checkpoint['meta'].get('seed'))
    return checkpoint
