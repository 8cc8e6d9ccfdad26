"""SIGTERM and SIGINT: a training saves where it is and ends; at the second one it ends at once."""

import os
import signal
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce, barrier, get_rank, is_distributed
from mmengine.hooks import EMAHook, Hook

from .saving import INTERRUPTED, require_folder

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # of a cluster that wants its nodes back, and of Ctrl-C


class Interrupted(Exception):
    """A training has saved and ends because of a signal, ``number``, into the file ``path``."""

    def __init__(self, number: int, path: str):
        super().__init__(number, path)
        self.number, self.path = number, path


class EndOnSignal(Hook):
    """Ends a training by Interrupted after the step, or validation batch, that a signal met."""

    priority = 'LOWEST'  # after what else saves or counts

    def __init__(self):
        self.received = 0
        self.shared = 0  # batches of a validation that every process has

    @contextmanager
    def listening(self):
        """Wait for the signals, but for those that are ignored, until the end of the context."""
        heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._note) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        if get_rank() == 0:
            name = signal.Signals(number).name
            os.write(2, f'\n{name}: saving, then ending; once more to end at once\n'.encode())

    def _asked(self) -> int:
        """The signal that any of the processes has received, or 0."""
        if not is_distributed():
            return self.received
        asked = torch.tensor(self.received)
        all_reduce(asked, 'max')
        return int(asked)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        optim_wrapper = runner.optim_wrapper
        if optim_wrapper.should_update() and (number := self._asked()):
            batches = getattr(runner.train_loop, 'batches', None)
            done = {} if batches is None else dict(batches=batch_idx + 1)
            self._end(runner, number, dict(epoch=runner.epoch, iter=runner.iter + 1, **done))

    def before_val_epoch(self, runner) -> None:
        shared = torch.tensor(len(runner.val_loop.dataloader))
        all_reduce(shared, 'min')
        self.shared = int(shared)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if batch_idx < self.shared and (number := self._asked()):
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)  # gives the model its own weights back
            self._end(runner, number, dict(epoch=runner.epoch, iter=runner.iter))

    def _end(self, runner, number: int, meta: dict) -> None:
        require_folder(runner.work_dir)
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False)
        barrier()  # a process that ends has the launcher end the others
        raise Interrupted(number, os.path.join(runner.work_dir, INTERRUPTED))
