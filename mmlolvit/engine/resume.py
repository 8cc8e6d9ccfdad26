"""What a training takes up where it left, beside what MMEngine's checkpoints have."""

import torch
from mmengine.dist import all_reduce, get_world_size, is_distributed
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from .order import EpochLoop, IterLoop


class TakeUp(Hook):
    """Goes on in the middle of an epoch, of a sum of gradients, or before a validation.

    MMEngine saves before it validates, and would leave out a validation that was cut off.
    """

    priority = 'LOWEST'  # when all other hooks are ready

    def __init__(self):
        self.meta, self.gradients = None, {}

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        loop, meta = runner.train_loop, checkpoint['meta']
        # Of this epoch, or of all in a loop over iterations.
        meta['batches'] = getattr(loop, 'batches', meta['iter'] + getattr(loop, 'ahead', 0))
        meta['batch_size'] = images_of_a_batch(loop)
        meta['patience'] = [(hook.wait_count, float(hook.best_score)) for hook in stops(runner)]
        if 'optimizer' in checkpoint and runner.gradients:
            checkpoint['gradients'] = runner.gradients

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self.meta, self.gradients = checkpoint['meta'], checkpoint.pop('gradients', {})

    def before_train(self, runner) -> None:
        if self.meta is None:
            return
        self._find_place(runner)
        for name, parameter in parameters(runner):
            if name in self.gradients:
                parameter.grad = self.gradients[name].to(parameter)
        patience = self.meta.get('patience', ())
        for hook, (waited, best) in zip(stops(runner), patience, strict=False):  # one may be new
            hook.wait_count, hook.best_score = waited, best
        # The best checkpoint is saved before an early stop counts the validation.
        validated = self.meta.get('validated') and not stops(runner)
        if not validated and self._validates(runner):
            runner.val_loop.run()

    def _find_place(self, runner) -> None:
        """Tell the loop how many batches were had; MMEngine's own checkpoints do not say so."""
        loop, iterations, epochs = runner.train_loop, self.meta['iter'], self.meta['epoch']
        size = images_of_a_batch(loop)
        factor = (self.meta.get('batch_size') or size) / size if size else 1
        if factor != 1:
            runner.logger.warning(
                f'a step has {size} images, and had {self.meta["batch_size"]} when this was saved: '
                'the data goes on at the same image, and the rest of training is another one'
            )
        if isinstance(loop, EpochLoop):
            left = iterations - epochs * len(loop.dataloader)
            batches = self.meta.get('batches', left if 0 < left <= len(loop.dataloader) else 0)
            loop.batches = min(round(batches * factor), len(loop.dataloader))
        elif isinstance(loop, IterLoop):
            batches = round(self.meta.get('batches', iterations) * factor)
            loop.ahead = batches - iterations
            loop.dataloader.batch_sampler.place(0, batches)

    def _validates(self, runner) -> bool:
        """Whether the loop validates at this moment, between two steps."""
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if not (by_epoch or isinstance(loop, IterBasedTrainLoop)):
            return False
        if runner.val_loop is None or getattr(loop, 'batches', 0):
            return False
        done, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        loop._decide_current_val_interval()
        return done >= max(1, loop.val_begin) and (done == end or not done % loop.val_interval)


def stops(runner) -> list[EarlyStoppingHook]:
    """What ends a training whose measure no longer grows."""
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def images_of_a_batch(loop) -> int | None:
    """Images of an iteration, of all processes together."""
    size = getattr(loop.dataloader.batch_sampler, 'batch_size', None)
    return size and size * get_world_size()


def unfinished_gradients(runner) -> dict[str, torch.Tensor]:
    """Gradients by their parameters while they are added up, the mean over processes; else none.

    With `accumulative_counts` a step of the optimizer is made of several iterations.
    """
    if runner.optim_wrapper.should_update():
        return {}
    found = {name: p.grad.clone() for name, p in parameters(runner) if p.grad is not None}
    if is_distributed():
        for gradient in found.values():
            all_reduce(gradient.div_(get_world_size()))
    return found


def parameters(runner):
    """Names and parameters of the model, whatever wraps it."""
    return getattr(runner.model, 'module', runner.model).named_parameters()
