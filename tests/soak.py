"""A long training, watched: memory, open files and the time of a step must not grow.

`python -m tests.soak --steps 5000` prints them as the training goes, its data processes included,
and fails where memory or open files grow from the second quarter to the last. Time is printed only.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmlolvit.cli.train import main as train

from .helpers import children

CONFIG = """
_base_ = 'mmlolvit::cls/lolvit_xx_digits.py'
train_dataloader = dict(
    batch_size=4, num_workers=2, persistent_workers=True, dataset=dict(indices=400)
)
val_dataloader = dict(
    batch_size=4, num_workers=1, persistent_workers=True, dataset=dict(indices=20)
)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs={epochs}, val_interval=1)
custom_hooks = [dict(type='EMAHook'), dict(type='Watch', every={every})]
"""
ROWS = []


def memory(process: int) -> int:
    """Bytes that it holds; what processes share counts for each, and copying it is no growth."""
    lines = Path(f'/proc/{process}/smaps_rollup').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('Rss:'))


@HOOKS.register_module()
class Watch(Hook):
    """A row of `ROWS` after some steps."""

    def __init__(self, every: int):
        self.every, self.times, self.start = every, [], 0.0

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.start = time.perf_counter()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.times.append(time.perf_counter() - self.start)
        if not self.every_n_train_iters(runner, self.every):
            return
        found = [os.getpid(), *children(os.getpid())]
        files = [f for f in Path('soak').rglob('*.*') if f.is_file()]
        sizes = {f: f.stat().st_size / 1e6 for f in files}
        row = dict(
            step=runner.iter + 1,
            processes=len(found),
            memory=sum(map(memory, found)) / 2**20,
            files=sum(len(os.listdir(f'/proc/{process}/fd')) for process in found),
            milliseconds=median(self.times) * 1e3,
            checkpoint=max((size for f, size in sizes.items() if f.suffix == '.pth'), default=0),
            logs=sum(size for f, size in sizes.items() if f.suffix != '.pth'),
        )
        self.times.clear()
        ROWS.append(row)
        print('soak', {key: round(value, 1) for key, value in row.items()}, flush=True)


def soak(steps: int) -> None:
    """Train so long; AssertionError where what must not grow has grown."""
    Path('soak.py').write_text(CONFIG.format(epochs=steps // 100, every=max(steps // 40, 1)))
    ROWS.clear()
    assert train(['soak.py', '--work-dir', 'soak']) == 0
    quarter = len(ROWS) // 4
    for key, allowed in (('memory', 1.01), ('files', 1.0), ('processes', 1.0)):
        second, last = (
            median(row[key] for row in rows)
            for rows in (ROWS[quarter : 2 * quarter], ROWS[-quarter:])
        )
        assert last <= second * allowed, f'{key} grew from {second} to {last}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--steps', type=int, default=5000, help='in epochs of 100; default 5000')
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        soak(steps)
    for row in ROWS:
        print('|', ' | '.join(f'{value:.1f}' for value in row.values()), '|')


if __name__ == '__main__':
    main()
