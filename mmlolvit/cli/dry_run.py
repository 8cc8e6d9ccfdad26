"""``tools/train.py --dry-run``: all is built, a few steps are made, and nothing is kept."""

import shutil
import time
from datetime import timedelta
from pathlib import Path
from statistics import median

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper

from ..benchmark.memory import STATUS, field
from .samples import find_base, find_labels, find_sizes

STEPS = 4  # the first is not timed: it allocates, and fills caches


class Done(Exception):
    """All that was to be seen has been."""


class Rehearsal(Hook):
    """Ends a training after some steps and one batch of validation, with what it has seen.

    Attributes:
        report: Lines to print.
        warnings: What looks wrong, in words.
    """

    priority = 'LOWEST'

    def __init__(self, folder: str):
        self.folder = folder  # where checkpoints would go
        self.report, self.warnings, self.times = [], [], []
        self.unused = None
        self.start = 0.0

    def before_train(self, runner) -> None:
        wrapper = runner.optim_wrapper
        backward = wrapper.backward

        def look(*args, **options) -> None:
            backward(*args, **options)
            if self.unused is None:
                self.unused = [
                    name
                    for name, parameter in runner.model.named_parameters()
                    if parameter.requires_grad and parameter.grad is None
                ]

        wrapper.backward = look
        self.start = time.perf_counter()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        losses = {k: float(torch.as_tensor(v).detach()) for k, v in outputs.items() if 'loss' in k}
        now = time.perf_counter()
        self.times.append(now - self.start)
        self.start = now
        ended = runner.iter + 1 >= runner.max_iters
        if len(self.times) < STEPS and not ended:
            return
        self.report += describe_model(runner)
        self.report.append(
            f'losses of step {len(self.times)}: '
            + ', '.join(f'{key} {value:.4g}' for key, value in losses.items())
        )
        self.report += self.describe_time(runner)
        self.report.append(f'memory: {describe_memory()}')
        self.report.append(self.describe_disk(runner))
        self.warnings += list(find_doubts(runner, self.unused or []))
        raise Done

    def describe_time(self, runner) -> list[str]:
        step = median(self.times[1:] or self.times)
        loop = runner.train_loop
        lines = [f'a step: {step:.3g} s; all {loop.max_iters}: {in_words(step * loop.max_iters)}']
        if loop.max_epochs > 1:
            per_epoch = len(loop.dataloader)
            lines[0] += f', an epoch of {per_epoch}: {in_words(step * per_epoch)}'
        if runner.val_loop is not None:
            loader = runner.val_loop.dataloader
            runner.model.eval()
            batch = next(iter(loader))
            start = time.perf_counter()
            with torch.no_grad():
                samples = runner.model.val_step(batch)
            runner.val_loop.evaluator.process(data_samples=samples, data_batch=batch)
            spent = time.perf_counter() - start
            lines.append(
                f'validation: a batch {spent:.3g} s, all {len(loader)}: '
                f'{in_words(spent * len(loader))}'
            )
        return lines

    def describe_disk(self, runner) -> str:
        """The size of a checkpoint, and of all that will lie there at once."""
        if not is_main_process():  # which alone saves
            return ''
        hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if hook is None:
            self.warnings.append('no checkpoint will be saved: the config has no CheckpointHook')
            return 'disk: nothing is saved'
        sizes = []
        for with_optimizer in (True, False):
            runner.save_checkpoint(
                runner.work_dir,
                'size.pth',
                save_optimizer=with_optimizer,
                save_param_scheduler=with_optimizer,
            )
            sizes.append(Path(runner.work_dir, 'size.pth').stat().st_size)
        number = hook.max_keep_ckpts
        steps = runner.max_epochs if hook.by_epoch else runner.max_iters
        saved = -(-steps // hook.interval) if hook.interval > 0 else 1
        kept = min(number, saved) if number > 0 else saved
        best = len(hook.key_indicators) if hook.save_best else 0
        most = sizes[0] * (kept + 1) + sizes[1] * (2 * best)  # a new one before an old one goes
        free = shutil.disk_usage(self.folder).free
        if most > free:
            self.warnings.append(
                f'checkpoints will take {most / 1e6:.0f} MB, and {self.folder} has '
                f'{free / 1e6:.0f} MB left: keep fewer (default_hooks.checkpoint.max_keep_ckpts)'
            )
        return (
            f'disk: a checkpoint {sizes[0] / 1e6:.1f} MB, {kept} kept and {best} of the best; at '
            f'most {most / 1e6:.0f} MB of {free / 1e9:.0f} GB free'
        )


def describe_model(runner) -> list[str]:
    """How many parameters there are."""
    sizes = [(p.numel(), p.requires_grad) for p in runner.model.parameters()]
    total, trained = sum(n for n, _ in sizes), sum(n for n, learns in sizes if learns)
    return [f'parameters: {total / 1e6:.3g} M, {trained / 1e6:.3g} M of them trained']


def describe_memory() -> str:
    if torch.cuda.is_available():
        return f'{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at most, of the GPU'
    if not STATUS.exists():
        return 'not told by this system'
    return f'{field(STATUS, "VmHWM") / 2**30:.2f} GiB at most, without processes that load data'


def find_doubts(runner, unused: list[str]):
    """What looks wrong though it runs, in words."""
    if unused:
        shown = ', '.join(unused[:3]) + (f' and {len(unused) - 3} more' if len(unused) > 3 else '')
        yield f'no loss reaches {shown}: left out of the model, or freeze them'
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    fixed = [name for name, p in model.named_parameters() if not p.requires_grad]
    if fixed:
        yield f'frozen: {", ".join(sorted({".".join(n.split(".")[:2]) for n in fixed}))}'
    for dataset in find_base(runner.train_loop.dataloader.dataset):
        classes = find_labels(dataset)
        for key, number in find_sizes({'model': runner.cfg.model}):
            if number > len(classes) > 0:
                kind = type(dataset).__name__
                yield f'{key}={number}, but {kind} has {len(classes)} classes: some never come'
    scaling = runner.cfg.get('auto_scale_lr') or {}
    base = scaling.get('base_batch_size')
    sampler = runner.train_loop.dataloader.batch_sampler
    real = (getattr(sampler, 'batch_size', None) or 0) * runner.world_size
    real *= getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    if base and real and base != real and not scaling.get('enable'):
        rate = runner.optim_wrapper.param_groups[0]['lr']
        yield (
            f'the learning rate is meant for {base} images a step, and there are {real}: '
            f'--auto-scale-lr would make it {real / base:.3g} times as large as in the config'
            + (f' (now {rate:.3g})' if rate else '')
        )


def in_words(seconds: float) -> str:
    return str(timedelta(seconds=max(1, round(seconds))))
