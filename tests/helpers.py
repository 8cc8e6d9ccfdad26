"""What several files of tests share."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


def exit_code(main: Callable, argv: list[str]) -> int:
    """What a tool ends with, also where argparse ends it."""
    try:
        return main(argv)
    except SystemExit as error:
        return error.code


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch on so many threads, and on as many as before in the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def inside(folder: Path) -> Iterator[Path]:
    """Work in a folder, for the fixtures of a whole file."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)


@HOOKS.register_module()
class ActAt(Hook):
    """What a test does before some iterations."""

    actions = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if action := self.actions.get(runner.iter):
            action(runner)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if action := self.actions.get('val'):
            action(runner)


def send(*signals: int, pause: float = 0.0):
    """Signals to this process, with a pause of seconds after each."""
    return lambda runner: [(signal.raise_signal(number), time.sleep(pause)) for number in signals]


def children(process: int) -> list[int]:
    """The processes that one has started, of Linux."""
    tasks = Path(f'/proc/{process}/task').glob('*/children')
    return [int(child) for task in tasks for child in task.read_text().split()]


def spoil(name: str):
    """Let the losses be infinite or a gradient NaN, in this iteration alone."""

    def act(runner) -> None:
        model = getattr(runner.model, 'module', runner.model)
        if name == 'loss':
            handle = model.register_forward_hook(lambda *args: infinite(args[-1]))
        else:
            *_, parameter = model.parameters()
            handle = parameter.register_hook(lambda grad: grad * math.nan)
        after = runner.hooks[-1].after_train_iter

        def once(*args, **kwargs):
            handle.remove()
            runner.hooks[-1].after_train_iter = after
            return after(*args, **kwargs)

        runner.hooks[-1].after_train_iter = once

    return act


def infinite(losses):
    """What a model's losses are, in dicts and lists, times infinity."""
    if isinstance(losses, dict):
        return {key: infinite(loss) for key, loss in losses.items()}
    return [infinite(loss) for loss in losses] if isinstance(losses, list) else losses * math.inf


def losses(work_dir: str) -> dict[int, float]:
    """Iteration -> loss, over all runs in a work dir; raises where two runs differ."""
    found = {}
    for file in sorted(Path(work_dir).glob('*/vis_data/2*.json')):
        for record in map(json.loads, file.read_text().splitlines()):
            if 'loss' in record:
                before = found.setdefault(record['step'], record['loss'])
                assert record['loss'] == pytest.approx(before, abs=1e-5), record
    return found


@contextmanager
def served(folder: str, monkeypatch, tmp_path) -> Iterator[str]:
    """The address of a folder's files; what is fetched of it lies elsewhere than a user's."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
