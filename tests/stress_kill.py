"""Kill a training with SIGKILL at random moments, saving included, until it is through.

`python -m tests.stress_kill --kills 200` fails where the newest intact checkpoint is older than
before a kill, where a training does not go on, or ends before it was killed so often, where a loss,
or the last weights, differ from those of a training that nobody killed, and where one that was
killed leaves a process.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from tqdm import tqdm

from mmlolvit.checkpoints import newest_intact, read_checkpoint
from mmlolvit.cli.train import main as train
from mmlolvit.engine.saving import UNFINISHED

CONFIG = """
_base_ = 'mmlolvit::cls/lolvit_xx_digits.py'
model = dict(backbone=dict(drop_path_rate=0.2))
train_dataloader = dict(batch_size=4, num_workers=2, dataset=dict(indices=8))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(indices=4))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs={epochs}, val_interval=5)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(max_keep_ckpts=1))
custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='Progress')]
"""


@HOOKS.register_module()
class Progress(Hook):
    """Tells the parent, by a file, that the first step of a training is done."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        Path('started').touch()


def run(work_dir: str) -> int:
    """Train in a process of its own, which has all imports already; its process id."""
    Path('started').unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        output = os.open('output.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os._exit(train(['killed.py', '--work-dir', work_dir, '--resume']))
    return child


def wait_for_start(child: int) -> int | None:
    """Until the first step is done; the exit code of a training that ended before, else None."""
    while not Path('started').exists():
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def require_ended(children: list[int]) -> None:
    """AssertionError where a process that loads data for a training lives on without it."""
    deadline = time.monotonic() + 30
    while left := {pid for pid, group in running() if group in children}:
        assert time.monotonic() < deadline, f'processes {left} are left'
        time.sleep(0.1)


def running() -> Iterator[tuple[int, int]]:
    """Processes, but for those that have ended and were not waited for, with their groups."""
    for file in Path('/proc').glob('[0-9]*/stat'):
        with suppress(OSError):  # it has gone
            state, _, group, *_ = file.read_text().rpartition(')')[2].split()
            if state != 'Z':
                yield int(file.parent.name), int(group)


def is_saving() -> bool:
    return any(Path('cut').glob(f'.*{UNFINISHED}'))


def alive(child: int) -> bool:
    """Whether it runs; one that has ended stays to be waited for."""
    return Path(f'/proc/{child}/stat').read_text().split(')')[1].split()[0] != 'Z'


def epoch_of(work_dir: str) -> int:
    path = newest_intact(work_dir)
    return read_checkpoint(path)['meta']['epoch'] if path else 0


def losses(work_dir: str) -> dict[int, set[float]]:
    """Iteration -> its losses, one where all runs agree to the last bit."""
    found = {}
    for file in Path(work_dir).glob('*/vis_data/2*.json'):
        for line in file.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # the line that a kill cut off
                continue
            if 'loss' in record:
                found.setdefault(record['step'], set()).add(record['loss'])
    return found


def stress(kills: int, seed: int) -> dict:
    """Kill so often, then train to the end; what happened. AssertionError where work is lost."""
    chance = random.Random(seed)
    epochs = 5 * kills  # one or two are made until each
    Path('killed.py').write_text(CONFIG.format(epochs=epochs))
    assert os.waitstatus_to_exitcode(os.waitpid(run('whole'), 0)[1]) == 0
    happened = dict(kills=0, in_a_save=0)
    before, children = 0, []
    for _ in tqdm(range(kills), unit='kill'):
        child = run('cut')
        code = wait_for_start(child)
        assert code is None, (code, Path('output.txt').read_text()[-2000:])
        children.append(child)
        moment = time.monotonic() + chance.uniform(0, 0.5)
        in_a_save = chance.random() < 0.5  # every other one
        while time.monotonic() < moment or (in_a_save and not is_saving() and alive(child)):
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        happened['kills'] += 1
        happened['in_a_save'] += is_saving()
        after = epoch_of('cut')
        assert after >= before, f'{before} epochs were saved, and {after} are left'
        before = after
    assert os.waitstatus_to_exitcode(os.waitpid(run('cut'), 0)[1]) == 0
    cut, whole = losses('cut'), losses('whole')
    assert cut.keys() == whole.keys()
    far = max(abs(a - b) for step in whole for a in whole[step] for b in cut[step])
    assert far < 1e-5, far
    last, other = (read_checkpoint(newest_intact(folder)) for folder in ('cut', 'whole'))
    for key in ('state_dict', 'ema_state_dict'):
        for name, tensor in other[key].items():
            torch.testing.assert_close(last[key][name], tensor, atol=1e-5, rtol=1e-4)
    assert not is_saving()
    require_ended(children)
    return happened | dict(epochs=epochs, steps=len(whole), largest_difference_of_a_loss=far)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--kills', type=int, default=200)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for part in ('models', 'datasets', 'evaluation', 'engine', 'visualization'):
        import_module(f'mmpretrain.{part}')  # once, and not in each process
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print(stress(args.kills, args.seed))


if __name__ == '__main__':
    main()
