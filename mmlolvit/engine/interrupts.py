"""SIGTERM and SIGINT: a training saves where it is and ends; at the second one it ends at once."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler

import torch
from mmengine.dist import all_reduce, barrier, get_rank, is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import MMLogger

from .resume import unfinished_gradients
from .saving import INTERRUPTED, require_folder

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # of a cluster that wants its nodes back, and of Ctrl-C
TOGETHER = 1.0  # seconds in which signals are one: a launcher passes on what all processes get


class Interrupted(Exception):
    """A training has saved and ends because of a signal, ``number``, into the file ``path``."""

    def __init__(self, number: int, path: str):
        super().__init__(number, path)
        self.number, self.path = number, path


def start_worker(init: Callable | None, number: int) -> None:
    """Begin a process that loads data, which ends with the training, not at a signal to both.

    Clusters and terminals send one to each process; a training needs data until it has saved.
    """
    if init:
        init(number)
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, RotatingFileHandler):
            handler.maxBytes = 0  # the training's own process begins a log anew
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, 'sigtimedwait'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_await_end, daemon=True).start()


def _await_end() -> None:
    """End this process at a SIGTERM of its parent, which has no more work for it, or after it.

    PyTorch notices that too, but not where the parent was killed before it began to look.
    """
    parent, starter = multiprocessing.parent_process(), os.getppid()  # two with a fork server
    while os.getppid() == starter and parent.is_alive():
        told = signal.sigtimedwait([signal.SIGTERM], 1)
        if told and told.si_pid == parent.pid:
            break
    os._exit(0)


class EndOnSignal(Hook):
    """Ends a training by Interrupted after the step, or validation batch, that a signal met."""

    priority = 'LOWEST'  # after what else saves or counts

    def __init__(self):
        self.process = os.getpid()
        self.before = {}  # handlers
        self.received, self.time = 0, 0.0
        self.shared = 0  # batches of a validation that every process has

    @contextmanager
    def listening(self):
        """Wait for the signals, but for those that are ignored, until the end of the context."""
        heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self.before = {number: signal.signal(number, self._note) for number in heard}
        try:
            yield
        finally:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        if os.getpid() != self.process:  # one that loads data, and has just begun
            return
        now = time.monotonic()
        if self.received and now - self.time < TOGETHER:
            return
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received, self.time = number, now
        if os.name == 'posix':  # or PyTorch raises, where a process that loads data ends now
            self.before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
        if number := self._asked():
            self._end(runner, number, dict(epoch=runner.epoch, iter=runner.iter + 1))

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
        runner.gradients = unfinished_gradients(runner)
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False)
        barrier()  # a process that ends has the launcher end the others
        raise Interrupted(number, os.path.join(runner.work_dir, INTERRUPTED))
