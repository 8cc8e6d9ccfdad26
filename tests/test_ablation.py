"""tools/ablate.py: real trainings of one epoch on a few digits."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmlolvit.ablation.report import Row, markdown
from mmlolvit.ablation.runs import DONE, Run, plan
from mmlolvit.ablation.variants import BASE, Variant, find_variants, suites
from mmlolvit.cli.ablate import LONG, SHORT, main
from mmlolvit.datasets import build_partners, draw_partners
from mmlolvit.errors import UserError
from mmlolvit.zoo import find_config, read_config

from .helpers import exit_code, threads

TINY = """
_base_ = 'mmlolvit::cls/lolvit_xx_digits.py'
train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size=8, dataset=dict(indices=16))
val_dataloader = dict(dataset=dict(indices=16))
test_dataloader = dict(dataset=dict(indices=16))
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with threads(torch.get_num_threads()):
        yield tmp_path


def read(path: str) -> dict[str, dict]:
    with open(path) as file:
        return {row['variant']: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_trains_what_is_not_done_and_writes_one_table(workspace, capsys):
    Path('tiny.py').write_text(TINY)
    argv = ['fusion', '--on', 'tiny.py', '--seeds', '0', '1', '--jobs', '2', '--threads', '1']
    assert main([*argv, '--work-dir', 'runs', '--out', 'found/table']) == 0
    rows = read('found/table.csv')
    assert list(rows) == ['base', 'fusion_off']
    results = {path: path.stat().st_mtime_ns for path in Path('runs').rglob('result.json')}
    assert len(results) == 4
    for name, row in rows.items():
        files = sorted(path for path in results if name in str(path))
        values = [json.loads(path.read_text())['value'] for path in files]
        assert [float(value) for value in row['values'].split()] == pytest.approx(values)
        assert float(row['mean']) == pytest.approx(sum(values) / 2)
        assert float(row['parameters']) > 8e5 and float(row['seconds']) > 0
    assert rows['base']['parameters'] == rows['fusion_off']['parameters']
    logs = [next(path.parent.glob('output.txt')).read_text() for path in results]
    assert sum('without=' in log for log in logs) == 2  # seen by the runs of one variant alone
    table = Path('found/table.md').read_text()
    assert (
        'Attention is a residual of its own channels.' in table and 'python tools/ablate' in table
    )
    assert cv2.imread('found/table.png').std() > 5

    killed = next(path for path in results if 'seed_1' in str(path) and 'base' in str(path))
    killed.unlink()
    assert main([*argv, '--work-dir', 'runs', '--out', 'found/table']) == 0
    assert killed.is_file() and 'resumed epoch: 1' in (killed.parent / 'output.txt').read_text()
    kept = {path: path.stat().st_mtime_ns for path in Path('runs').rglob('result.json')}
    assert {path for path in results if kept[path] != results[path]} == {killed}

    Path('tiny.py').write_text(TINY.replace('max_epochs=1', 'max_epochs=2'))
    capsys.readouterr()
    assert main([*argv, '--work-dir', 'runs', '--out', 'found/table']) == 2
    assert 'are of another config: name another --work-dir' in capsys.readouterr().err


@pytest.mark.slow
def test_a_failed_run_does_not_end_the_others(workspace, capsys):
    wrong = 'http://me:hidden-in-a-link@a'  # a window, that the message repeats
    Path('tiny.py').write_text(f"{TINY}model = dict(backbone=dict(fwa_cfg=dict(window='{wrong}')))")
    argv = ['window', '--on', 'tiny.py', '--seeds', '0', '--jobs', '2', '--threads', '1']
    assert main(argv) == 1
    rows = read('work_dirs/ablation/table.csv')
    assert [name for name, row in rows.items() if not row['values']] == ['base']
    table = Path('work_dirs/ablation/table.md').read_text()
    assert "- base: seed 0 failed with exit code 2: error: window must be 'adaptive'" in table
    said = next(Path('work_dirs/ablation/tiny/base').rglob('output.txt')).read_text()
    assert all('http://...@a' in text and 'hidden-in' not in text for text in (table, said))


def test_secrets_are_in_no_record_and_no_part_of_what_is_compared(workspace):
    secret = "note = dict(api_key='hidden-in-a-key')\n"
    secret += "load_from = 'http://me:hidden-in-a-link@example.com/x.pth'\n"
    for text in (TINY + secret, TINY + secret.replace('hidden-in', 'hidden-in-another')):
        Path('tiny.py').write_text(text)
        runs = plan(['tiny.py'], [BASE], [0], Path('runs'))
        runs[0].folder.mkdir(exist_ok=True)
    whole = Path('runs/tiny/base/whole.txt').read_text()
    assert "api_key='...'" in whole and "load_from = 'http://...@example.com/x.pth'" in whole

    Path('tiny.py').write_text(text + 'clip = 1\n')
    with pytest.raises(UserError, match='are of another config'):
        plan(['tiny.py'], [BASE], [0], Path('runs'))


@pytest.mark.parametrize('name', [*SHORT, *LONG])
def test_every_variant_builds_on_the_default_configs(name, tmp_path):
    for variant in find_variants(['all']):
        path = tmp_path / f'{variant.name}.py'
        path.write_text(variant.config(find_config(name)))
        cfg, base = read_config(str(path)), read_config(name)
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model).eval()
        with torch.no_grad():
            assert model(torch.randn(1, 3, 64, 64)).shape == (1, 10)
        assert (cfg.model == base.model) is (variant is BASE)
        changed = {key for key in base if key != 'model' and cfg[key] != base[key]}
        assert not changed


@pytest.mark.slow
def test_sigterm_ends_what_runs_and_one_ablation_runs_at_a_time(workspace, capsys):
    Path('tiny.py').write_text(TINY.replace('max_epochs=1', 'max_epochs=500'))
    argv = ['ghost', '--on', 'tiny.py', '--seeds', '0', '--jobs', '1']
    command = [sys.executable, '-m', 'mmlolvit', 'ablate', *argv]
    env = dict(os.environ, OMP_NUM_THREADS='1')
    first = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    folder = Path('work_dirs/ablation/tiny/base/seed_0')
    while not list(folder.glob('epoch_*.pth')):
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.1)
    assert main(argv) == 2
    assert 'another ablation runs in work_dirs/ablation' in capsys.readouterr().err
    os.killpg(first.pid, signal.SIGTERM)  # to its training as well, as clusters and terminals do
    first.communicate(timeout=60)
    assert first.returncode == 130
    assert (folder / 'interrupted.pth').is_file()
    assert not (folder.parents[1] / 'ghost_off/seed_0').exists()


@pytest.mark.parametrize(
    ('values', 'shown'),
    [
        ([50.0, 52.0], '| 51.0 | 1.4 | 50.0 52.0 | **-40.0** |'),
        ([89.0, 95.0], '| 92.0 | 4.2 | 89.0 95.0 | +1.0 |'),
        ([50.0], '| 50.0 | - | 50.0 | -41.0 |'),
        ([], '| - | - | - | - |'),
    ],
)
def test_what_differs_beyond_the_spread_is_bold(values, shown):
    base = Row('a', BASE, 'accuracy/top1', [90.0, 92.0], [], {})
    row = Row('a', Variant('other', 'Other.'), 'accuracy/top1', values, [], {})
    table = ' '.join(markdown([base, row], 'ablate').split())
    assert '| 91.0 | 1.4 | 90.0 92.0 | - |' in table and shown in table


def test_a_result_that_is_cut_short_is_none(tmp_path):
    run = Run('config', BASE, 0, tmp_path, 'accuracy/top1')
    for text, value in (('{"val', None), ('{}', None), ('{"value": 12.5}', 12.5)):
        (tmp_path / DONE).write_text(text)
        assert run.result == value


def test_suites():
    assert suites() == ['backbone', 'fusion', 'ghost', 'local', 'score', 'share', 'window', 'all']
    names = [variant.name for variant in find_variants(['score', 'local'])]
    assert names == ['base', 'local_off', 'score_relu_norm', 'score_softmax']
    assert len(find_variants(['all'])) == 16


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['scores'], 'no suite scores, expected some of backbone'),
        (['score', '--on', 'none'], 'config none does not exist'),
        (['score', '--jobs', '0'], '--jobs expects at least 1, got 0'),
        (['score', '--on', 'a.py', 'b/a.py'], 'two configs are named a, and their runs'),
    ],
)
def test_mistakes_are_one_message(workspace, capsys, argv, message):
    Path('b').mkdir()
    for path in ('a.py', 'b/a.py'):
        Path(path).write_text(TINY)
    code = exit_code(main, argv)
    assert (code, message in capsys.readouterr().err) == (2, True)


def test_half_of_the_pairs_are_partners_and_only_they_are_marked(workspace):
    number = 0
    build_partners('partners')
    for index in range(100):
        image, mask, partners = draw_partners('val', index)
        number += partners
        name = f'{index:04d}.png'
        kept = cv2.imread(f'partners/images/10k/val/{name}')
        marked = cv2.imread(f'partners/labels/sem_seg/masks/val/{name}', cv2.IMREAD_UNCHANGED)
        assert (kept == image).all()
        assert (marked == mask * partners).all()
        ends = [image[:, part][mask[:, part]] for part in (np.s_[:150], np.s_[490:])]
        assert mask.sum() == sum(map(len, ends))
        # The most saturated pixel of a digit is nearly its colour.
        colors = [end[np.ptp(end.astype(int), axis=1).argmax()].astype(int) for end in ends]
        assert (np.abs(colors[0] - colors[1]).max() < 40) == partners
    assert 35 < number < 65
