"""What only a GPU does; skipped where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mmlolvit
from mmlolvit.benchmark.models import build
from mmlolvit.benchmark.runtimes import RUNTIMES
from mmlolvit.benchmark.speed import main as benchmark
from mmlolvit.checkpoints import read_checkpoint
from mmlolvit.cli.test import main as run_test
from mmlolvit.cli.train import main as run_train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='PyTorch finds no GPU'),
]
ROOT = Path(__file__).parents[1]
NAMES = dict(cls='lolvit_xx_digits', det='retinanet_lolvit_x_digits', seg='fpn_lolvit_x_digits')
SHORT = dict(
    cls=['train_cfg.max_epochs=2', 'train_dataloader.dataset.indices=256'],
    det=['train_cfg.max_epochs=2', 'train_dataloader.dataset.indices=64'],
    seg=['train_cfg.max_iters=20', 'train_cfg.val_interval=20', 'param_scheduler.total_steps=20'],
)
FEW = ['val_dataloader.dataset.indices=16', 'test_dataloader.dataset.indices=16']


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder, in which every test of this file works."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp('gpu'))
    yield Path.cwd()
    os.chdir(before)


@pytest.mark.parametrize('task', NAMES)
def test_trains_in_mixed_precision_and_answers_as_on_a_cpu(workspace, task, capsys):
    options = ['--cfg-options', *SHORT[task], *FEW]
    assert run_train([NAMES[task], '--amp', '--work-dir', task, *options]) == 0
    checkpoint = (workspace / task / 'last_checkpoint').read_text()
    state = read_checkpoint(checkpoint)
    assert state['optimizer']['loss_scaler']['scale'] > 0
    assert all(value.isfinite().all() for value in state['state_dict'].values())
    assert run_test([NAMES[task], checkpoint, '--work-dir', task, *options]) == 0

    images = sorted(map(str, Path('data').rglob('val/**/*.png')))[:4]
    images = [image for image in images if 'masks' not in image]
    on = {
        device: mmlolvit.load(NAMES[task], checkpoint, device=device)(images)
        for device in ('cpu', 'cuda')
    }
    for one, other in zip(on['cpu'], on['cuda'], strict=True):
        if task == 'seg':
            assert (one['map'] != other['map']).mean() < 0.01
        else:
            np.testing.assert_allclose(
                np.asarray(one['scores']), np.asarray(other['scores']), atol=2e-3
            )


def test_trains_over_nccl(workspace):
    options = ['--cfg-options', *SHORT['seg'], *FEW]
    command = ['bash', ROOT / 'tools/dist_train.sh', NAMES['seg'], '1', '--work-dir', 'nccl']
    env = dict(os.environ, PYTHON=sys.executable)
    done = subprocess.run([*command, *options], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'Distributed launcher: pytorch' in done.stdout + done.stderr
    assert (workspace / 'nccl/iter_20.pth').is_file()


def test_a_cuda_graph_computes_what_eager_does():
    subject = build('lolvit_xx', training=False)
    x = torch.randn(2, 3, 64, 64, device='cuda')
    subject.net.cuda()
    want, got = (
        RUNTIMES[runtime](subject, x, 'fp16', training=False).run()
        for runtime in ('eager', 'cudagraph')
    )
    torch.testing.assert_close(got, want, atol=2e-2, rtol=2e-2)


def test_measures_every_runtime_of_a_gpu(tmp_path):
    out = tmp_path / 'gpu'
    argv = ['mobilenetv3_small_100', 'lolvit_xx', '--device', 'cuda', '--precisions', 'fp16']
    argv += ['--runtimes', 'eager', 'compile', 'cudagraph', '--batches', '2', '--sizes', '64']
    assert benchmark([*argv, '--rounds', '2', '--out', str(out)]) == 0
    report = json.loads(out.with_suffix('.json').read_text())
    assert [cell['runtime'] for cell in report['cells']] == ['eager', 'compile', 'cudagraph']
    assert report['environment']['gpu'] == torch.cuda.get_device_name()
    for cell in report['cells']:
        assert not cell['failed']
        for result in cell['results'].values():
            assert 0 < result['low'] <= result['seconds'] <= result['high'] < 1
            assert result['memory'] is None or result['memory'] > 1e6
