"""tools/plot_runs.py and tools/train.py --tensorboard, on a real run and on logs as it writes."""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmlolvit.analysis.logs import read_runs
from mmlolvit.cli.plot_runs import main
from mmlolvit.cli.train import main as run_train
from mmlolvit.cli.train import use_tensorboard
from mmlolvit.errors import UserError
from mmlolvit.tasks import TASKS

from .helpers import exit_code, inside, threads

CONFIGS = Path(__file__).parents[1] / 'configs'
DIGITS = str(CONFIGS / 'cls/lolvit_xx_digits.py')
FEW = [
    'train_dataloader.dataset.indices=24',
    'train_dataloader.batch_size=8',
    'val_dataloader.dataset.indices=12',
    'default_hooks.logger.interval=1',
]


def write_log(work_dir, folder, records):
    path = Path(work_dir, folder, 'vis_data', 'scalars.json')
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(record) + '\n' for record in records))
    return path


def by_epoch(epochs, number, loss=1.0, metric='coco/bbox_mAP'):
    """Records of epochs of so many iterations, the middle and the last one logged."""
    for epoch in epochs:
        for step in ((epoch - 1) * number + number // 2, epoch * number):
            yield dict(loss=loss / step, time=0.1, epoch=epoch, iter=step, step=step)
        yield {metric: epoch / 10, 'time': 0.05, 'step': epoch}


def by_iteration(steps, values):
    for step, value in zip(steps, values, strict=True):
        yield dict(loss=1 / step, time=0.2, iter=step, step=step)
        yield dict(mIoU=value, time=0.05, step=step)


def test_a_run_is_drawn_with_its_best(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_log('a', '20260101_000000', by_epoch(range(1, 4), 10))
    write_log('b', '20260101_000000', by_iteration([10, 20, 30], [50.0, 70.5, 60.0]))
    assert main(['a', 'b', '--out', 'new/both.png']) == 0
    table = [re.split(r' *\| *', line)[1:-1] for line in capsys.readouterr().out.splitlines()[:4]]
    assert table[2] == [
        'a', 'epoch 3, iteration 30', '0.03333', 'coco/bbox_mAP 0.3 at epoch 3', '0.1',
    ]  # fmt: skip
    assert table[3] == ['b', 'iteration 30', '0.03333', 'mIoU 70.5 at iteration 20', '0.2']
    assert cv2.imread('new/both.png').shape[1] > 800


def test_of_a_resumed_run_the_later_folder_counts(tmp_path):
    write_log(tmp_path, '20260101_000000', by_epoch((1, 2, 3), 10, loss=1.0))
    write_log(tmp_path, '20260102_000000', by_epoch((3,), 10, loss=5.0))
    (tmp_path / '20260103_000000' / 'vis_data').mkdir(parents=True)  # of tools/test.py
    (run,) = read_runs([str(tmp_path)])
    assert run.per_epoch == 10
    losses = {5: 1 / 5, 10: 1 / 10, 15: 1 / 15, 20: 1 / 20, 25: 5 / 25, 30: 5 / 30}
    assert run.training['loss'] == losses
    assert run.metrics['coco/bbox_mAP'] == {10: 0.1, 20: 0.2, 30: 0.3}


@pytest.mark.parametrize('cut', ['in the validation', 'in the next epoch'])
def test_a_run_by_epochs_that_resumed_with_a_validation(tmp_path, cut):
    before = list(by_epoch((1, 2, 3), 10))
    validation = before[-1]
    before += [dict(loss=1.0, epoch=4, iter=35, step=35)]
    write_log(tmp_path, '20260101_000000', before[: -2 if cut == 'in the validation' else None])
    write_log(tmp_path, '20260102_000000', [validation, *by_epoch((4,), 10)])
    (run,) = read_runs([str(tmp_path)])
    assert list(run.training['loss']) == [5, 10, 15, 20, 25, 30, 35, 40]
    assert run.metrics['coco/bbox_mAP'] == pytest.approx({10: 0.1, 20: 0.2, 30: 0.3, 40: 0.4})


def test_a_run_by_iterations_that_resumed_with_a_validation(tmp_path):
    before, after = by_iteration([20, 25], [40.0, 50.0]), by_iteration([25, 30], [51.0, 60.0])
    write_log(tmp_path, '20260101_000000', before)
    write_log(tmp_path, '20260102_000000', [dict(mIoU=41.0, step=20), *after])
    (run,) = read_runs([str(tmp_path)])
    assert list(run.training['loss']) == [20, 25, 30]
    assert run.metrics['mIoU'] == {20: 41.0, 25: 51.0, 30: 60.0}


def test_a_run_that_was_started_anew_is_the_new_one(tmp_path):
    write_log(tmp_path, '20260101_000000', by_epoch((1, 2, 3), 10))
    write_log(tmp_path, '20260102_000000', by_epoch((1,), 10, loss=5.0))
    (run,) = read_runs([str(tmp_path)])
    assert run.training['loss'] == {5: 5 / 5, 10: 5 / 10}
    assert run.last == 10


@pytest.mark.parametrize('logged_by_epoch', [False, True])
def test_validation_of_a_run_by_iterations_stands_where_it_was(tmp_path, logged_by_epoch):
    records = list(by_iteration([50, 100], [40.0, 60.0]))
    if logged_by_epoch:  # MMEngine's default: the number of times that the data was used up
        records[1]['step'], records[3]['step'] = 0, 1
    write_log(tmp_path, '20260101_000000', records)
    (run,) = read_runs([str(tmp_path)])
    assert run.per_epoch is None and run.metrics['mIoU'] == {50: 40.0, 100: 60.0}


def test_a_run_that_goes_on_is_read(tmp_path):
    path = write_log(tmp_path, '20260101_000000', by_epoch((1,), 10))
    whole = path.read_text()
    path.write_text(whole + '{"loss": 0.25, "st')
    (run,) = read_runs([str(tmp_path)])
    assert run.last == 10 and run.training['loss'] == {5: 0.2, 10: 0.1}


def test_a_diverged_run_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    records = list(by_epoch((1, 2), 10))
    records[3]['loss'], records[5]['coco/bbox_mAP'] = float('nan'), float('nan')
    write_log('a', '20260101_000000', records)
    assert main(['a']) == 0
    assert 'coco/bbox_mAP 0.1 at epoch 1' in capsys.readouterr().out


def test_the_best_loss_of_validation_is_the_least(tmp_path):
    records = [dict(r, val_loss=r['step'] / 10) if 'iter' not in r else r for r in
               by_epoch((1, 2), 10)]  # fmt: skip
    write_log(tmp_path, '20260101_000000', records)
    (run,) = read_runs([str(tmp_path)])
    assert run.best('val_loss') == 10 and run.best('coco/bbox_mAP') == 20


def test_keys_are_names_or_patterns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_log('a', '20260101_000000', by_epoch((1, 2), 10, metric='coco/bbox_mAP_50'))
    assert main(['a', '--keys', 'lo*', '*mAP_50']) == 0
    assert 'coco/bbox_mAP_50 0.2 at epoch 2' in capsys.readouterr().out


def test_runs_of_one_name_are_told_apart(tmp_path):
    for name in ('one/run', 'two/run'):
        write_log(tmp_path / name, '20260101_000000', by_epoch((1,), 10))
    runs = read_runs([str(tmp_path / 'one/run'), str(tmp_path / 'two/run/')])
    assert [run.name for run in runs] == ['one/run', 'two/run']


def test_names_are_drawn_as_they_are_written(tmp_path, monkeypatch):
    """$ begins no formula, and a name that begins with _ stands in the legend, too."""
    monkeypatch.chdir(tmp_path)
    for name in (r'a$\frac$', '_run'):
        write_log(name, '20260101_000000', by_epoch((1, 2), 10, metric=r'$\frac$'))
        assert main([name]) == 0
        picture = cv2.imread('runs.png', cv2.IMREAD_GRAYSCALE)
        frame = np.flatnonzero((picture < 128).mean(axis=0) > 0.5)
        assert (picture[:, frame[-1] + 5 :] < 128).any(), 'nothing right of the curves'


def test_losses_that_no_axis_can_hold_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    records = list(by_epoch((1, 2), 10))
    records[0]['loss'], records[1]['loss'] = 1e308, -1e308
    write_log('a', '20260101_000000', records)
    assert main(['a']) == 0
    assert '| 0.05 | coco/bbox_mAP 0.2 at epoch 2' in capsys.readouterr().out


def test_a_run_of_neither_loss_nor_metric_is_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log('a', '20260101_000000', [dict(lr=0.1, iter=1, step=1)])
    assert main(['a']) == 0 and Path('runs.png').is_file()


def test_mistakes_are_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_log('good', '20260101_000000', by_epoch((1,), 10))
    write_log('bad', '20260101_000000', by_epoch((1,), 10)).write_text('[1]\n{"step": 1}\n')
    Path('empty').mkdir()
    write_log('begun', '20260101_000000', [dict(iter=1, step=1)])
    write_log('epoch', '20260101_000000', [dict(loss=1, epoch=0, iter=1, step=1), dict(step=1)])
    write_log('many', '20260101_000000', [{str(i): 1.0 for i in range(101)} | dict(step=1)])
    for argv, message in (
        (['gone'], 'gone does not exist: expected a work dir'),
        (['good', 'empty'], 'empty holds no logs of a training run: expected a work dir'),
        (['begun'], 'begun holds no logs of a training run: expected a work dir'),
        (['epoch'], 'line 1: expected a JSON object with a step, as MMEngine logs it, an epoch'),
        (['many'], 'expected at most 100 curves, got 101; name fewer with --keys'),
        (['bad'], 'line 1: expected a JSON object with a step'),
        (['good', '--keys', 'los'], '--keys los: no run logged it; did you mean loss?'),
        (['good', '--keys', 'zzzz'], 'they logged loss, time, coco/bbox_mAP'),
        (['good', '--out', 'runs.json'], 'expects a name that ends in .png, got runs.json'),
    ):
        code = exit_code(main, argv)
        errors = [line for line in capsys.readouterr().err.splitlines() if 'error: ' in line]
        assert (code, len(errors)) == (2, 1) and message in errors[0], errors


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The work dir of a run of one epoch, resumed for a second one, with --tensorboard."""
    pytest.importorskip('tensorboard')
    with inside(tmp_path_factory.mktemp('runs')) as folder, threads(1):
        for number in (1, 2):
            options = ['--cfg-options', *FEW, f'train_cfg.max_epochs={number}']
            assert (
                run_train([DIGITS, '--work-dir', 'w', '--tensorboard', '--resume', *options]) == 0
            )
    return folder / 'w'


@pytest.mark.slow
def test_a_real_resumed_run_is_one_curve(trained, tmp_path, capsys):
    (run,) = read_runs([str(trained)])
    assert (run.per_epoch, run.last) == (3, 6)
    assert list(run.training['loss']) == [1, 2, 3, 4, 5, 6]
    assert list(run.metrics['accuracy/top1']) == [3, 6]
    assert main([str(trained), '--out', str(tmp_path / 'runs.png')]) == 0
    assert re.search(r'accuracy/top1 \S+ at epoch [12]', capsys.readouterr().out)


@pytest.mark.slow
def test_tensorboard_has_loss_and_metric(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = read_runs([str(trained)])
    losses = {}
    for file in trained.glob('*/vis_data/events.out.tfevents.*'):
        events = EventAccumulator(str(file)).Reload()
        losses |= {event.step: event.value for event in events.Scalars('loss')}
        assert events.Scalars('accuracy/top1')
    assert losses == pytest.approx(run.training['loss'], rel=1e-5)


@pytest.mark.parametrize('name', ['cls/lolvit_x_in1k', 'det/fcos_lolvit_x_coco', None])
def test_tensorboard_joins_the_visualizer_once(name, monkeypatch):
    pytest.importorskip('tensorboard')
    cfg = Config.fromfile(CONFIGS / f'{name}.py') if name else Config()
    task = TASKS[cfg.get('default_scope', 'mmseg')]
    for _ in range(2):
        use_tensorboard(cfg, task)
    assert cfg.visualizer.type == task.visualizer
    kinds = [backend['type'] for backend in cfg.visualizer.vis_backends]
    assert kinds == ['LocalVisBackend', 'TensorboardVisBackend']
    monkeypatch.setitem(sys.modules, 'tensorboard', None)
    with pytest.raises(UserError, match='tensorboard is not installed: pip install tensorboard'):
        use_tensorboard(cfg, task)
