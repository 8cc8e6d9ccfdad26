"""Trainings that are cut off, at a signal, by a full disk or by bad numbers."""

import copy
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import TRANSFORMS
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch.utils.data import BatchSampler, SequentialSampler, get_worker_info

from mmlolvit.checkpoints import newest_intact, read_checkpoint
from mmlolvit.cli import samples
from mmlolvit.cli.common import load_run, make_run_parser
from mmlolvit.cli.train import main as run_train
from mmlolvit.engine import history
from mmlolvit.engine.history import BoundedHistory
from mmlolvit.engine.interrupts import TOGETHER
from mmlolvit.engine.order import PlacedBatchSampler, SeededItems
from mmlolvit.engine.saving import INTERRUPTED, UNFINISHED, write_safely
from mmlolvit.engine.secrecy import hide_argument, hide_secrets
from mmlolvit.errors import UserError

from .helpers import ActAt, children, inside, losses, send, served, spoil, threads

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]

# Each has two workers, random augmentation, an EMA and drop path or dropout.
COMMON = """
_base_ = 'mmlolvit::{base}'
train_dataloader = dict(
    batch_size=4, num_workers=2, persistent_workers={keep}, dataset=dict(indices={images})
)
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(indices=4))
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval={interval}))
custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='ActAt')]
"""
CLS = """
_base_ = './cls_common.py'
model = dict(backbone=dict(drop_path_rate=0.2))
train_cfg = dict(max_epochs=3, val_interval=1)
"""
DET = """
_base_ = './det_common.py'
model = dict(backbone=dict(drop_path_rate=0.2))
train_cfg = dict(max_epochs=3, val_interval=3)
"""
SEG = """
_base_ = './seg_common.py'
model = dict(decode_head=dict(dropout_ratio=0.1))
train_cfg = dict(max_iters=9, val_interval=9)
param_scheduler = dict(total_steps=9)
"""
PARTS = dict(
    cls=(CLS, dict(base='cls/lolvit_xx_digits.py', keep=True, images=14, interval=1)),
    det=(
        DET,
        dict(base='det/retinanet_lolvit_xx_digits_short.py', keep=False, images=14, interval=1),
    ),
    seg=(SEG, dict(base='seg/fpn_lolvit_xx_digits_short.py', keep=True, images=14, interval=2)),
)


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with a config of each task and the losses of a training that nothing cut off."""
    with inside(tmp_path_factory.mktemp('engine')) as folder, threads(1):
        ActAt.actions = {}
        for task, (own, options) in PARTS.items():
            Path(f'{task}_common.py').write_text(COMMON.format(**options))
            Path(f'{task}.py').write_text(own)
            assert run_train([f'{task}.py', '--work-dir', f'whole_{task}']) == 0
        yield folder


@pytest.fixture
def actions():
    """What happens before which iteration; nothing in the end."""
    ActAt.actions = {}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a script may ignore it
    yield ActAt.actions
    signal.signal(signal.SIGINT, before)
    ActAt.actions = {}


def assert_same(work_dir: str, whole: str) -> None:
    """Losses and last weights, their averages too, are those of another training."""
    assert losses(work_dir) == pytest.approx(losses(whole), abs=1e-5)
    last, other = (read_checkpoint(newest_intact(folder)) for folder in (work_dir, whole))
    assert last['meta']['iter'] == other['meta']['iter']
    for key in ('state_dict', 'ema_state_dict'):
        for name, tensor in other[key].items():
            torch.testing.assert_close(last[key][name], tensor, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize('task', PARTS)
def test_resumed_in_the_middle_of_an_epoch_a_training_is_the_same(workspace, actions, task, capfd):
    work_dir = f'cut_{task}'
    actions[4] = send(signal.SIGTERM)  # the first of four batches of an epoch
    assert run_train([f'{task}.py', '--work-dir', work_dir]) == 128 + signal.SIGTERM
    saved = Path(work_dir, INTERRUPTED)
    said = capfd.readouterr().err
    assert (
        'SIGTERM: saving, then ending' in said
        and f'saved {saved.resolve()}; go on with --resume' in said
    )
    assert newest_intact(work_dir) == str(saved)
    actions.clear()
    actions[6] = send(signal.SIGINT)
    assert run_train([f'{task}.py', '--work-dir', work_dir, '--resume']) == 128 + signal.SIGINT
    actions.clear()
    assert run_train([f'{task}.py', '--work-dir', work_dir, '--resume']) == 0
    assert not saved.exists()
    assert_same(work_dir, f'whole_{task}')


@pytest.mark.parametrize('task', ['cls', 'seg'])
def test_processes_that_load_data_end_with_the_training(workspace, task):
    """At once; when the garbage collector finds them each would take 5 s."""
    before = children(os.getpid())
    assert run_train([f'{task}.py', '--work-dir', f'ended_{task}']) == 0
    assert set(children(os.getpid())) <= set(before)


def test_a_broken_checkpoint_is_named_and_passed_over(workspace, capsys):
    shutil.copytree('whole_cls', 'broken')
    last = Path('broken/epoch_3.pth')
    last.write_bytes(last.read_bytes()[:100_000])
    assert run_train(['cls.py', '--work-dir', 'broken', '--resume']) == 0
    said = capsys.readouterr()
    assert 'warning: passed over: broken/epoch_3.pth is cut short' in said.err
    assert 'resumed epoch: 2' in said.out
    assert_same('broken', 'whole_cls')


def test_a_training_does_not_begin_anew_over_checkpoints_that_it_cannot_use(workspace, capsys):
    shutil.copytree('whole_cls', 'refused')
    for file in Path('refused').glob('*.pth'):
        file.write_bytes(file.read_bytes()[:100_000])
    assert run_train(['cls.py', '--work-dir', 'refused', '--resume']) == 2
    assert 'none of the checkpoints in refused can be gone on from' in capsys.readouterr().err


def test_no_checkpoint_outside_the_work_dir_is_removed(workspace):
    """The best one of the run that another goes on from; or whatever a stranger's names."""
    shutil.copytree('whole_cls', 'origin')
    precious = Path('origin/precious')
    precious.mkdir()
    state = read_checkpoint('origin/epoch_2.pth')
    info = state['message_hub']['runtime_info']
    assert Path(info['best_ckpt']).name.startswith('best_')
    for best in (str(precious), info['best_ckpt'].replace('whole_cls', 'origin')):
        info.update(best_ckpt=best, best_score=-1.0, keep_ckpt_ids=['../origin/precious/x', 1, 2])
        torch.save(state, 'origin/epoch_2.pth')
        before = sorted(Path('origin').rglob('*'))
        argv = ['cls.py', '--work-dir', 'fork', '--resume', 'origin/epoch_2.pth']
        assert run_train(argv) == 0
        assert sorted(Path('origin').rglob('*')) == before
    assert len(list(Path('fork').glob('best_*.pth'))) == 1


def test_a_training_goes_on_with_the_optimizer_that_it_had(workspace, capsys):
    Path('other.py').write_text(
        "_base_ = './cls.py'\n"
        "sgd = dict(_delete_=True, type='SGD', lr=0.1, weight_decay=0.0)\n"
        'optim_wrapper = dict(optimizer=sgd)\n'
    )
    argv = ['other.py', '--work-dir', 'other', '--resume', 'whole_cls/epoch_2.pth']
    assert run_train(argv) == 2
    said = capsys.readouterr().err
    assert 'epoch_2.pth cannot be resumed from' in said and 'SGD needs dampening' in said


def test_a_training_goes_on_with_the_classes_that_it_had(workspace, capsys):
    state = read_checkpoint('whole_cls/epoch_2.pth')
    names = state['meta']['dataset_meta']['classes']
    state['meta']['dataset_meta']['classes'] = tuple(reversed(names))
    torch.save(state, 'reversed.pth')
    assert run_train(['cls.py', '--work-dir', 'reversed', '--resume', 'reversed.pth']) == 2
    assert "class '0' has the number 0 in the data set, and 9" in capsys.readouterr().err


def test_runs_that_begin_in_the_same_second_have_a_log_each(workspace):
    for folder in ('quick_1', 'quick_2', 'quick_3'):
        argv = ['cls.py', '--work-dir', folder]
        cfg, _ = load_run(make_run_parser('').parse_args(argv), ())
        samples.GuardedRunner.from_cfg(cfg).logger.info(f'this is {folder}')
        (log,) = Path(folder).glob('*/*.log')
        assert f'this is {folder}' in log.read_text()


def validations(work_dir: str) -> dict[int, dict]:
    """Step or epoch -> what was measured, but for times."""
    return {
        record['step']: {key: value for key, value in record.items() if 'time' not in key}
        for file in sorted(Path(work_dir).glob('*/vis_data/2*.json'))
        for record in map(json.loads, file.read_text().splitlines())
        if 'loss' not in record
    }


def fail(runner) -> None:
    raise UserError('as if it were killed')


@pytest.mark.parametrize(
    ('task', 'how'),
    [('cls', send(signal.SIGTERM)), ('det', send(signal.SIGINT)), ('seg', fail)],
    ids=PARTS,
)
def test_a_validation_that_is_cut_off_is_repeated(workspace, actions, task, how):
    """The last one too, when no step is left. A signal saves the weights that train, no average."""
    work_dir = f'cut_val_{task}'
    actions['val'] = how
    code = dict(cls=128 + signal.SIGTERM, det=128 + signal.SIGINT, seg=2)[task]
    assert run_train([f'{task}.py', '--work-dir', work_dir]) == code
    assert '[2/2]' not in next(Path(work_dir).glob('*/*.log')).read_text()
    actions.clear()
    assert run_train([f'{task}.py', '--work-dir', work_dir, '--resume']) == 0
    assert_same(work_dir, f'whole_{task}')
    assert validations(work_dir) == validations(f'whole_{task}') != {}


def test_two_interruptions_do_not_lose_a_validation(workspace, actions):
    """The second after the last step, before the validation that follows it."""
    argv = ['seg.py', '--work-dir', 'cut_twice', '--resume']
    for step in (4, 8):
        actions[step] = send(signal.SIGTERM)
        assert run_train(argv) == 128 + signal.SIGTERM
        actions.clear()
    assert run_train(argv) == 0
    assert_same('cut_twice', 'whole_seg')
    assert validations('cut_twice') == validations('whole_seg')


def test_checkpoints_of_iterations_go_on_within_an_epoch(workspace, actions):
    options = ['default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=3']
    argv = ['cls.py', '--work-dir', 'by_iter', '--resume', '--cfg-options', *options]
    actions[7] = fail
    assert run_train(argv) == 2
    assert newest_intact('by_iter') == 'by_iter/iter_6.pth'
    actions.clear()
    assert run_train(argv) == 0
    assert_same('by_iter', 'whole_cls')
    assert validations('by_iter') == validations('whole_cls')


@pytest.mark.parametrize(('task', 'steps'), [('cls', 6 + 3 + 7), ('seg', 9)])
def test_another_batch_size_goes_on_at_the_same_image(workspace, actions, task, steps, monkeypatch):
    """Here after six batches of four: of 14 images, a batch of an epoch's end has two."""
    argv = [f'{task}.py', '--work-dir', f'smaller_{task}', '--resume', '--cfg-options']
    drawn = []
    call = SeededItems.__call__
    monkeypatch.setattr(SeededItems, '__call__', lambda *args: drawn.extend(args[1]) or call(*args))
    options = ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
    actions[5] = send(signal.SIGTERM)
    assert run_train([*argv, *options]) == 128 + signal.SIGTERM
    before = drawn.copy()
    drawn.clear()
    actions.clear()
    assert run_train([*argv, *options, 'train_dataloader.batch_size=2']) == 0
    assert len(before) == dict(cls=14 + 8, seg=24)[task] and not {*before} & {*drawn}
    assert {image for epoch, image in [*before, *drawn] if epoch == 1} == {*range(14)}
    assert read_checkpoint(newest_intact(f'smaller_{task}'))['meta']['iter'] == steps
    log = next(Path(f'smaller_{task}').glob('*/*.log')).parent.parent.glob('*/*.log')
    assert any('a step has 2 images, and had 4' in file.read_text() for file in log)


def test_a_loader_without_a_batch_size_gives_one_image_a_step(workspace, actions):
    parts = 'dataset={{_base_.train_dataloader.dataset}}, sampler={{_base_.val_dataloader.sampler}}'
    own = f"_base_ = './cls.py'\ntrain_dataloader = dict(_delete_=True, {parts})\n"
    Path('singly.py').write_text(own + 'train_cfg = dict(max_epochs=1)\n')
    actions[5] = fail
    options = ['--cfg-options', 'default_hooks.checkpoint.by_epoch=False']
    assert run_train(['singly.py', '--work-dir', 'singly', '--resume', *options]) == 2
    actions.clear()
    assert run_train(['singly.py', '--work-dir', 'singly', '--resume', *options]) == 0
    assert [*losses('singly')] == [*range(1, 15)]


def test_a_validation_that_was_made_is_not_repeated(workspace, actions):
    """Where it found a new best, after which the checkpoint is saved once more."""
    seen = []
    actions['val'] = lambda runner: seen.append(runner.epoch)
    actions[5] = fail
    assert run_train(['cls.py', '--work-dir', 'once']) == 2
    actions[5] = lambda runner: None
    assert run_train(['cls.py', '--work-dir', 'once', '--resume']) == 0
    assert sorted(seen) == [1, 1, 2, 2, 3, 3]  # of two batches each


def test_an_early_stop_counts_on(workspace, actions):
    """Nothing is better than the first validation, by so much."""
    stop = dict(type='EarlyStoppingHook', monitor='accuracy/top1', patience=2, min_delta=200)
    own = f"_base_ = './cls.py'\ncustom_hooks = [dict(type='ActAt'), {stop}]\n"
    Path('early.py').write_text(own + 'train_cfg = dict(max_epochs=9)\n')
    argv = ['early.py', '--work-dir', 'early', '--resume']
    for step in (4, 9):  # the first of the second and third epoch
        actions[step] = fail
        assert run_train(argv) == 2
        actions.clear()
    assert run_train(argv) == 0
    assert [*validations('early')] == [1, 2, 3]
    assert run_train(argv) == 0  # there is nothing left to do
    assert [*validations('early')] == [1, 2, 3]


def test_gradients_that_are_added_up_are_not_lost(workspace, actions):
    """Steps of three batches, of which an epoch has four."""
    options = ['--cfg-options', 'optim_wrapper.accumulative_counts=3']
    assert run_train(['cls.py', '--work-dir', 'added', *options]) == 0
    actions[5] = fail
    assert run_train(['cls.py', '--work-dir', 'added_cut', *options]) == 2
    assert 'gradients' in read_checkpoint('added_cut/epoch_1.pth')
    del actions[5]
    actions['val'] = send(signal.SIGTERM)
    assert run_train(['cls.py', '--work-dir', 'added_cut', '--resume', *options]) == 143
    assert 'gradients' in read_checkpoint(f'added_cut/{INTERRUPTED}')
    actions.clear()
    assert run_train(['cls.py', '--work-dir', 'added_cut', '--resume', *options]) == 0
    assert_same('added_cut', 'added')
    assert losses('added') != pytest.approx(losses('whole_cls'), abs=1e-5)


@OPTIM_WRAPPERS.register_module()
class ScaledOnCpu(AmpOptimWrapper):
    """MMEngine's wrapper with PyTorch's loss scale, which it takes for GPUs only."""

    def __init__(self, **options):
        OptimWrapper.__init__(self, **options)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0**20, growth_interval=4)
        self._scale_update_param, self.cast_dtype = None, torch.bfloat16

    def optim_context(self, model):
        return OptimWrapper.optim_context(self, model)


def test_a_loss_scale_goes_on(workspace, actions):
    """Infinite gradients make it smaller, which is not the end of a training."""
    argv = ['cls.py', '--cfg-options', 'optim_wrapper.type=ScaledOnCpu', '--work-dir']
    actions[1] = spoil('gradient')
    assert run_train([*argv, 'scaled']) == 0
    actions[6] = send(signal.SIGTERM)
    assert run_train([*argv, 'scaled_cut']) == 143
    actions.clear()
    assert run_train([*argv, 'scaled_cut', '--resume']) == 0
    assert_same('scaled_cut', 'scaled')
    scaled, cut = (
        read_checkpoint(f'{name}/epoch_3.pth')['optimizer']['loss_scaler']
        for name in ('scaled', 'scaled_cut')
    )
    assert scaled == cut and (scaled['scale'], scaled['_growth_tracker']) == (2.0**21, 2)


@pytest.mark.parametrize(
    ('pause', 'code'), [(0.0, 128 + signal.SIGTERM), (TOGETHER, -signal.SIGTERM)]
)
def test_a_second_signal_ends_at_once_if_it_is_another(workspace, pause, code):
    work_dir = f'twice_{code}'
    program = (
        'import signal; from tests.test_engine import ActAt, send, run_train\n'
        f'ActAt.actions[2] = send(signal.SIGTERM, signal.SIGTERM, pause={pause})\n'
        f'raise SystemExit(run_train(["cls.py", "--work-dir", "{work_dir}"]))'
    )
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, '-c', program], env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert Path(work_dir, INTERRUPTED).exists() == (code > 0)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_saves(workspace, number):
    """As clusters, `timeout` and terminals send it: those that load data get it as well."""
    Path('group.py').write_text(
        "_base_ = './cls.py'\ncustom_hooks = []\n"
        'train_cfg = dict(max_epochs=10**6, val_interval=10**6)\n'
        'default_hooks = dict(checkpoint=dict(interval=10**6))\n'
    )
    work_dir = f'group_{number.name}'
    code = (  # a script may ignore it
        'import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        f'from mmlolvit.cli.train import main; raise SystemExit(main(["group.py", "--work-dir", '
        f'"{work_dir}"]))'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code],
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while not losses(work_dir):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    os.killpg(process.pid, number)
    said = process.communicate()[1].decode()
    assert process.returncode == 128 + number, said
    assert said.count('saving, then ending') == said.count('; go on with --resume') == 1
    assert 'Traceback' not in said
    assert newest_intact(work_dir) == f'{work_dir}/{INTERRUPTED}'
    with pytest.raises(ProcessLookupError):  # none is left
        os.killpg(process.pid, 0)


def test_a_process_that_loads_data_ends_after_a_training_that_is_killed():
    """Even where that happens while it begins."""
    program = """
import os, signal
from functools import partial
from torch.utils.data import DataLoader
from mmlolvit.engine.interrupts import start_worker

def kill(number):
    os.kill(os.getppid(), signal.SIGKILL)
    while os.getppid() == parent:
        pass

parent = os.getpid()
init = partial(start_worker, kill)
list(DataLoader(range(4), num_workers=1, worker_init_fn=init, multiprocessing_context='fork'))
"""
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    process = subprocess.Popen([sys.executable, '-c', program], env=env, stdout=subprocess.PIPE)
    process.communicate(timeout=60)  # until the last that may write has ended
    assert process.returncode == -signal.SIGKILL


class Limited:
    """A disk that is full: no file may grow beyond a size."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, runner) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


def test_a_full_disk_loses_nothing(workspace, actions, capsys):
    actions[5] = Limited(100_000)
    try:
        assert run_train(['cls.py', '--work-dir', 'full']) == 2
    finally:
        Limited(resource.RLIM_INFINITY)(None)
    said = capsys.readouterr().err
    assert 'epoch_2.pth cannot be written: File too large' in said
    assert said.splitlines()[-1].startswith('error: ')
    assert newest_intact('full') == 'full/epoch_1.pth'
    assert not list(Path('full').glob(f'.*{UNFINISHED}'))
    actions.clear()
    assert run_train(['cls.py', '--work-dir', 'full', '--resume']) == 0
    assert_same('full', 'whole_cls')


@pytest.mark.skipif(
    not Path('/dev/full').exists(),
    reason='/dev/full, a disk that is always full, is on Linux only',
)
def test_records_that_find_the_disk_full_end_training(workspace, actions, capsys):
    def fill(runner) -> None:
        (file,) = Path('full_log').glob('*/vis_data/2*.json')
        file.unlink()
        file.symlink_to('/dev/full')

    actions[5] = fill
    assert run_train(['cls.py', '--work-dir', 'full_log']) == 2
    assert 'cannot be written: No space left on device' in capsys.readouterr().err.splitlines()[-1]
    assert newest_intact('full_log') == 'full_log/epoch_1.pth'


def test_a_log_that_finds_the_disk_full_ends_training(workspace, actions, capsys):
    def fill(runner) -> None:
        Limited(next(Path('full_text').glob('*/*.log')).stat().st_size)(runner)

    actions[5] = fill
    try:
        assert run_train(['cls.py', '--work-dir', 'full_text']) == 2
    finally:
        Limited(resource.RLIM_INFINITY)(None)
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith('error: ') and 'File too large' in said
    assert 'Logging error' not in said and 'Traceback' not in said
    assert newest_intact('full_text') == 'full_text/epoch_1.pth'


def test_a_work_dir_that_is_removed_ends_training(workspace, actions, capsys):
    actions[5] = lambda runner: os.rename('gone', 'moved')
    assert run_train(['cls.py', '--work-dir', 'gone']) == 2
    assert 'the folder' in (said := capsys.readouterr().err) and 'is gone' in said
    assert not Path('gone', 'epoch_2.pth').exists()
    os.rename('moved', 'gone')
    actions.clear()
    assert run_train(['cls.py', '--work-dir', 'gone', '--resume']) == 0
    assert_same('gone', 'whole_cls')


def test_the_old_checkpoint_goes_after_the_new_one_is_there(workspace, actions, monkeypatch):
    """Also where one is kept: what is saved when a new one cannot be written is the old one."""
    one = ['--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=1']
    actions[5] = Limited(100_000)
    try:
        assert run_train(['cls.py', '--work-dir', 'one', *one]) == 2
    finally:
        Limited(resource.RLIM_INFINITY)(None)
    assert newest_intact('one') == 'one/epoch_1.pth'
    actions.clear()
    assert run_train(['cls.py', '--work-dir', 'one', '--resume', *one]) == 0
    assert [f.name for f in Path('one').glob('epoch_*.pth')] == ['epoch_3.pth']
    assert len(list(Path('one').glob('best_*.pth'))) == 1


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(a=torch.ones(3)), path)
    before = path.read_bytes()
    broken = bytearray(before)
    broken[before.index(np.ones(3, np.float32).tobytes())] ^= 1
    with pytest.raises(UserError, match='what was read back differs'):
        write_safely(path, bytes(broken))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['a.pth']


def test_what_a_killed_process_left_is_removed(workspace):
    left = Path('left', f'.epoch_2.pth.77{UNFINISHED}')
    left.parent.mkdir()
    left.write_text('half')
    assert run_train(['cls.py', '--work-dir', 'left']) == 0
    assert not left.exists()


@TRANSFORMS.register_module()
class Breaks:
    """Ends the process that loads its 12th sample, in the second epoch, or lets it wait."""

    def __init__(self, how: str):
        self.how, self.seen = how, 0

    def __call__(self, data: dict) -> dict:
        self.seen += 1
        if self.seen == 12 and get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL) if self.how == 'dies' else time.sleep(1000)
        return data


@pytest.mark.parametrize(
    ('how', 'words'),
    [('dies', 'Often memory ran out'), ('hangs', 'timed out after 2')],
)
def test_a_process_that_loads_data_and_fails_ends_training(workspace, how, words, capsys):
    load = (
        "[dict(type='LoadImageFromFile'), dict(type='Breaks', how={!r}), dict(type='PackInputs')]"
    )
    Path(f'{how}.py').write_text(
        "_base_ = './cls.py'\n"
        f'train_dataloader = dict(timeout=2, dataset=dict(pipeline={load.format(how)}))\n'
    )
    assert run_train([f'{how}.py', '--work-dir', how]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith('error: DataLoader') and words in said and '--resume' in said
    assert newest_intact(how) == f'{how}/epoch_1.pth'


@pytest.mark.parametrize(
    ('task', 'what', 'words'),
    [
        ('cls', 'loss', 'the loss (loss) turned NaN'),
        ('cls', 'gradient', 'the gradients of head.'),
        ('det', 'loss', 'the loss (loss, loss_cls, loss_bbox) turned NaN'),
        ('seg', 'gradient', 'the gradients of decode_head.'),
    ],
)
def test_bad_numbers_end_training_with_the_step_and_its_images(
    workspace, actions, task, what, words, capsys
):
    work_dir = f'bad_{task}_{what}'
    actions[5] = spoil(what)
    assert run_train([f'{task}.py', '--work-dir', work_dir]) == 2
    said = capsys.readouterr().err
    assert f'step 6: {words}' in said
    folder = 'data/digits/train/' if task == 'cls' else 'data/scenes/images/10k/train/'
    assert folder in said and 'bad_numbers.policy=skip' in said
    saved = torch.load(f'{work_dir}/bad_batch_iter_6.pth', weights_only=False)
    assert saved['iter'] == 6 and len(saved['batch']['inputs']) == len(saved['samples']) == 4
    last = 'iter_4.pth' if task == 'seg' else 'epoch_1.pth'
    assert newest_intact(work_dir) == f'{work_dir}/{last}'


@pytest.mark.parametrize('task', PARTS)
def test_a_bad_step_can_be_left_out(workspace, actions, task, capsys):
    work_dir = f'skipped_{task}'
    argv = [f'{task}.py', '--work-dir', work_dir, '--cfg-options', 'bad_numbers.policy=skip']
    actions[5] = spoil('loss')
    assert run_train([*argv, 'bad_numbers.limit=1']) == 0
    found = losses(work_dir)
    assert found[6] == found[5]  # the last mean
    assert len(found) == len(losses(f'whole_{task}'))
    assert np.isfinite(list(found.values())).all()
    saved = read_checkpoint(newest_intact(work_dir))['state_dict']
    assert all(tensor.isfinite().all() for tensor in saved.values())


def test_bad_steps_are_left_out_up_to_a_limit(workspace, actions):
    actions.update({5: spoil('loss'), 7: spoil('loss')})
    options = ['--cfg-options', 'bad_numbers.policy=skip', 'bad_numbers.limit=1']
    assert run_train(['cls.py', '--work-dir', 'skipped_twice', *options]) == 2


@pytest.mark.parametrize('task', PARTS)
def test_a_training_can_go_back(workspace, actions, task):
    options = ['--cfg-options', 'bad_numbers.policy=go_back']
    actions[6] = spoil('loss')
    assert run_train([f'{task}.py', '--work-dir', f'back_{task}', *options]) == 0
    found = losses(f'back_{task}')  # the same where steps were made twice
    assert found[7] == found[6] and len(found) == len(losses(f'whole_{task}'))


def test_a_training_goes_back_to_its_start_and_not_to_an_older_run(workspace, actions):
    """Where it has saved nothing yet."""
    Path('older').mkdir()
    Path('older/epoch_3.pth').write_bytes(Path('whole_cls/epoch_3.pth').read_bytes())
    actions[2] = spoil('loss')
    options = ['--cfg-options', 'bad_numbers.policy=go_back']
    assert run_train(['cls.py', '--work-dir', 'older', *options]) == 0
    assert len(losses('older')) == 12
    assert losses('older')[2] == losses('whole_cls')[2]


@pytest.mark.parametrize('policy', ['skip', 'go_back'])
@pytest.mark.parametrize('what', ['loss', 'gradient'])
def test_a_step_of_several_batches_is_left_out_whole(workspace, actions, what, policy):
    """Of three steps of four batches the second, for its second batch."""
    options = ['optim_wrapper.accumulative_counts=4', f'bad_numbers.policy={policy}']
    work_dir = f'left_out_{what}_{policy}'
    actions[5] = spoil(what)
    assert run_train(['cls.py', '--work-dir', work_dir, '--cfg-options', *options]) == 0
    assert len(losses(work_dir)) == 12
    saved = read_checkpoint(f'{work_dir}/epoch_3.pth')
    assert {int(entry['step']) for entry in saved['optimizer']['state'].values()} == {2}
    assert all(tensor.isfinite().all() for tensor in saved['state_dict'].values())
    assert 'gradients' not in saved


def test_bad_numbers_policies_are_checked(workspace, capsys):
    argv = ['cls.py', '--work-dir', 'policy', '--cfg-options']
    for option in (
        'bad_numbers.policy=pray',
        'bad_numbers.limit=0',
        'bad_numbers.often=1',
        'bad_numbers=3',
    ):
        assert run_train([*argv, option]) == 2
        assert 'bad_numbers: expected policy' in capsys.readouterr().err


@pytest.mark.parametrize('task', PARTS)
def test_a_dry_run_reports_and_keeps_nothing(workspace, task, capsys):
    capsys.readouterr()
    before = set(Path().rglob('*'))
    assert run_train([f'{task}.py', '--work-dir', 'dry', '--dry-run']) == 0
    said = capsys.readouterr().out
    for word in ('parameters: ', 'losses of step 4: loss ', 'a step: ', 'validation: a batch '):
        assert f'\n{word}' in said
    assert 'GiB at most' in said and 'disk: a checkpoint ' in said
    starts = 'warning: The backbone starts from random weights.'
    assert said.endswith('no doubts\n') if task == 'cls' else starts in said
    assert said.count('warning: ') == (task != 'cls')
    assert set(Path().rglob('*')) == before


def test_a_dry_run_goes_on_from_what_it_is_told(workspace, capsys):
    options = ['--cfg-options', 'default_hooks.checkpoint=None']
    assert run_train(['seg.py', '--work-dir', 'whole_seg', '--dry-run', '--resume', *options]) == 0
    said = capsys.readouterr().out
    assert 'warning: no step is left to make' in said and 'random weights' not in said
    assert run_train(['seg.py', '--work-dir', 'dry', '--dry-run', *options]) == 0
    assert 'warning: no checkpoint will be saved' in capsys.readouterr().out


def test_a_dry_run_says_what_looks_wrong(workspace, actions, capsys):
    options = ['auto_scale_lr.base_batch_size=256', 'model.backbone.frozen_stages=1']
    options += ['train_cfg.max_epochs=1000000', 'default_hooks.checkpoint.max_keep_ckpts=-1']
    options += ['model.head.num_classes=20', 'optim_wrapper.accumulative_counts=8']
    options += ['bad_numbers.policy=go_back']
    actions[0] = lambda runner: setattr(runner.model, 'idle', torch.nn.Linear(1, 1))
    argv = ['cls.py', '--work-dir', 'dry', '--dry-run', '--cfg-options', *options]
    assert run_train(argv) == 0
    said = capsys.readouterr().out
    assert 'warning: frozen: backbone.stages, backbone.stem' in said
    assert 'warning: no loss reaches idle.weight, idle.bias' in said
    assert 'warning: model.head.num_classes=20, but CustomDataset has 10 classes' in said
    assert 'warning: the learning rate is meant for 256 images a step, and there are 32' in said
    assert 'warning: checkpoints will take ' in said and 'keep fewer' in said
    assert 'no doubts' not in said


SECRET = """
    Authorization Proxy-Authorization apiToken authToken hftoken HF_TOKEN notion_token tokens auth
    basic_auth bearer cookie pwd passphrase password2 db_pass api-key aws_access_key_id accountKey
    client_secret connection_string sig X-Amz-Signature use_auth_token
"""
HARMLESS = """
    num_tokens num_query_token token_num max_new_tokens cls_token mask_token tokenizer token_mixer
    out_type passes low_pass key keypoint meta_keys author authors sigma sigmoid sign norm_cfg
    pooling keep_ckpt_ids
"""
PLACES = {
    'https://me:hidden-in-a@hidden-in-b@example.com/a': 'https://...@example.com/a',
    's3://hidden-in-a:hidden/hidden-in-b@bucket/a': 's3://...@bucket/a',
    'https://hidden-in-a@example.com': 'https://...@example.com',
    'http://host:8080/a@b.pth': 'http://host:8080/a@b.pth',
    'https://a.com/b?token=hidden-in-c&epoch=3': 'https://a.com/b?token=...&epoch=3',
    'https://a.com/b?d=1&X-Amz-Signature=hidden-in-c': 'https://a.com/b?d=1&X-Amz-Signature=...',
    'https://a.com/@scope/b@2x.png?key=1': 'https://a.com/@scope/b@2x.png?key=1',
}


def test_a_run_records_what_repeats_it(workspace, actions, monkeypatch, tmp_path):
    monkeypatch.setenv('MY_SERVICE_TOKEN', 'hidden-in-the-environment')
    options = ['--cfg-options', 'note.api_key=hidden-in-the-command', 'train_cfg.max_epochs=3']
    options += [
        'note.place=https://me:hidden-in-a-link@example.com/a b',
        'note.password=9876501234',
        *(f'note.given.{name}=hidden-in-{name}' for name in SECRET.split()),
        *(f'note.given.{name}=kept-in-{name}' for name in HARMLESS.split()),
        'note.given.token=True',
        *(f'note.place{number}={place}' for number, place in enumerate(PLACES)),
    ]
    options += ['--cfg-options=note.token=hidden-in-one-argument']
    Path('noted.py').write_text(
        "_base_ = './cls.py'\nnote = dict(pair=(dict(token='hidden-in-a-pair'), 1), "
        "password=['hidden-in-a-list'], given=dict())\n"
    )
    with served('whole_cls', monkeypatch, tmp_path) as address:
        start = f'{address}/epoch_2.pth?token='
        argv = ['noted.py', '--work-dir', 'recorded', '--resume', f'{start}hidden-in-a-query']
        assert run_train([*argv, *options]) == 0
    (file,) = Path('recorded').glob('*/run.json')
    record = json.loads(file.read_text())
    assert record['command'].startswith('mmlolvit train noted.py --work-dir recorded --resume')
    assert 'note.api_key=... train_cfg.max_epochs=3' in record['command']
    assert " 'note.place=https://...@example.com/a b' " in record['command']
    assert record['command'].endswith(' --cfg-options=note.token=...')
    assert record['seed'] == 0 and record['resumed_from'] == f'{start}...'
    assert record['packages']['torch'] == torch.__version__.partition('+')[0]
    assert record['environment']['python'] == platform.python_version()
    assert record['data']['training']['samples'] == 14 and record['git'] is None
    (whole,) = Path('whole_cls').glob('*/run.json')
    assert json.loads(whole.read_text())['data'] == record['data']
    written = [file for file in Path('recorded').rglob('*') if file.is_file()]
    assert {'.log', '.json', '.py', '.pth'} <= {file.suffix for file in written}
    for secret in (b'hidden-in', b'9876501234'):
        assert not any(secret in file.read_bytes() for file in written)
    (log,) = Path('recorded').glob('*/*.log')
    assert f'Load checkpoint from {start}...' in log.read_text()
    for text in (record['command'], log.read_text(), Path('recorded/noted.py').read_text()):
        assert not [name for name in HARMLESS.split() if f'kept-in-{name}' not in text]
        assert not [place for place in PLACES.values() if place not in text]
    assert hide_argument('--token=X') == '--token=...'
    assert hide_argument('pass=all') == 'pass=all'
    rates = {'.cls_token': dict(decay_mult=0.0), 'tokens': 4}
    assert hide_secrets(copy.deepcopy(rates)) == rates


class Endless(SequentialSampler):
    """Over and over, as MMEngine's InfiniteSampler."""

    def __init__(self, data_source: Sequence):
        super().__init__(data_source)
        self.size = len(data_source)

    def __iter__(self):
        while True:
            yield from range(self.size)


def take(sampler: BatchSampler, number: int) -> list:
    batches = iter(sampler)
    return [next(batches) for _ in range(number)]


@pytest.mark.parametrize('endless', [False, True], ids=['restarted', 'infinite'])
@pytest.mark.parametrize('passed', [0, 1, 2, 3, 7])
def test_batches_from_any_place_on_are_those_of_the_whole(endless, passed):
    kind = Endless if endless else SequentialSampler
    sampler = kind(range(5))
    sampler.set_epoch = lambda epoch: None

    def batches(passed: int, number: int) -> list:
        placed = PlacedBatchSampler(sampler, 2, endless=True)
        placed.place(0, passed)
        return take(placed, number)

    whole = batches(0, 12)
    assert whole[:3] == [
        [(0, 0), (0, 1)],
        [(0, 2), (0, 3)],
        [(0, 4), (1, 0)] if endless else [(0, 4)],
    ]
    assert len({pair for batch in whole for pair in batch}) == sum(map(len, whole))
    assert batches(passed, 12 - passed) == whole[passed:]


@pytest.mark.parametrize('task', ['cls', 'seg'])
def test_a_training_without_a_batch_is_refused(workspace, task, capsys):
    """By epochs, which schedules count, and by steps of an order that ends."""
    options = ['train_dataloader.batch_size=64', 'train_dataloader.drop_last=True']
    options += ['train_dataloader.sampler.type=DefaultSampler']
    assert run_train([f'{task}.py', '--work-dir', 'none', '--cfg-options', *options]) == 2
    assert 'error: no batch to train on: 14 images for batches of 64' in capsys.readouterr().err


def run_short_form(command: str) -> None:
    """A command whose long form docs/reliability.md has the figures of."""
    argv = [sys.executable, '-m', *command.split()]
    env = dict(os.environ, OMP_NUM_THREADS='1')
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def test_nothing_is_lost_by_kills():
    run_short_form('tests.stress_kill --kills 6')


@pytest.mark.skipif(
    not Path('/proc/self/smaps_rollup').exists(),
    reason='the memory of processes is read from /proc, which only Linux has',
)
def test_nothing_grows():
    run_short_form('tests.soak --steps 400')


def test_old_values_of_a_log_are_dropped_from_memory(workspace, actions, monkeypatch):
    monkeypatch.setattr(history, 'KEPT', 10)  # what a logged mean is taken over
    monkeypatch.setattr(BoundedHistory, 'every_n_train_iters', lambda *args: True)
    assert run_train(['cls.py', '--work-dir', 'bounded']) == 0
    kept = read_checkpoint('bounded/epoch_3.pth')['message_hub']['log_scalars']
    assert len(kept['train/loss'].data[0]) == 10
    assert losses('bounded') == pytest.approx(losses('whole_cls'), abs=1e-5)


def test_a_log_begins_anew_before_it_is_too_large(workspace, actions, monkeypatch):
    monkeypatch.setattr(samples, 'LOG_SIZE', 20_000)

    def complain(runner) -> None:
        for number in range(20):
            runner.logger.warning('such a warning at every step ' * 10 + f'{runner.iter} {number}')

    actions.update(dict.fromkeys(range(12), complain))
    assert run_train(['cls.py', '--work-dir', 'talkative']) == 0
    logs = sorted(Path('talkative').glob('*/*.log*'))
    assert [file.suffix for file in logs] == ['.log', '.1']
    assert all(0 < file.stat().st_size <= 20_000 for file in logs)
    assert 'Epoch(val) [3][2/2]' in logs[0].read_text()
    assert losses('talkative') == pytest.approx(losses('whole_cls'), abs=1e-5)
