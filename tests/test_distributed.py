"""Several processes: two over gloo on the CPU, and what leads to them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import STDOUT
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

from mmlolvit.checkpoints import newest_intact
from mmlolvit.cli import distributed
from mmlolvit.cli.distributed import GRACE, join, wait_to_speak
from mmlolvit.cli.samples import GuardedRunner
from mmlolvit.cli.test import main as run_test
from mmlolvit.cli.train import main as run_train
from mmlolvit.datasets import scenes
from mmlolvit.datasets.cue import EpochSampler
from mmlolvit.errors import UserError

from .distributed_worker import gradients
from .helpers import children, losses

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / 'tools'
ENV = dict(os.environ, OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', PYTHON=sys.executable)
IMAGES = 9  # to test; odd, so that one of two processes is given one twice

CLS = """
_base_ = 'mmlolvit::cls/lolvit_xx_digits.py'
train_dataloader = dict(batch_size=4, dataset=dict(indices=list(range(0, 1437, 60))))
val_dataloader = dict(batch_size=4, dataset=dict(indices=list(range(0, 360, 40))))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
param_scheduler = None
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=1))
custom_hooks = [
    dict(type='EMAHook', momentum=0.1, update_buffers=True), dict(type='SaveBuffers')
]
"""
GRADIENTS = """
_base_ = './cls.py'
model = dict(backbone=dict(norm_eval=True))
train_dataloader = dict(
    sampler=dict(shuffle=False),
    dataset=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]),
)
custom_hooks = []
"""
FAULTY = """
_base_ = './cls.py'
train_dataloader = dict(batch_size=2, num_workers=1)
train_cfg = dict(max_epochs=2, val_interval=2)
custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='ActAt')]
"""
LONG = """
_base_ = './cls.py'
train_cfg = dict(max_epochs=10**6, val_interval=10**6)
default_hooks = dict(checkpoint=dict(interval=10**6))
custom_hooks = []
"""
KNOWING = """
_base_ = 'mmlolvit::{base}'
model = dict(_delete_=True, type='{model}')
val_dataloader = dict(batch_size=2)
test_dataloader = val_dataloader
"""
TRAINED = """
_base_ = 'mmlolvit::{base}'
train_dataloader = dict(batch_size=2)
param_scheduler = None
train_cfg = {train_cfg}
"""
DET, SEG = 'det/retinanet_lolvit_x_digits.py', 'seg/fpn_lolvit_x_digits.py'
CONFIGS = {
    'cls.py': CLS,
    'gradients.py': GRADIENTS,
    'faulty.py': FAULTY,
    'long.py': LONG,
    'det.py': KNOWING.format(base=DET, model='KnowingDetector'),
    'seg.py': KNOWING.format(base=SEG, model='KnowingDecoder'),
    'det_train.py': TRAINED.format(base=DET, train_cfg='dict(max_epochs=1)'),
    'seg_train.py': TRAINED.format(base=SEG, train_cfg='dict(max_iters=2, val_interval=2)'),
}


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """What two processes made of work(), and one of the same tests, in out/ and shown/."""
    folder = tmp_path_factory.mktemp('distributed')
    for name, text in CONFIGS.items():
        (folder / name).write_text(text)
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), folder / 'any.pth')
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(scenes, 'LENGTHS', dict(train=6, val=IMAGES))
        scenes.build_scenes()  # the digits are left to the two processes
        command = ['bash', TOOLS / 'torchrun.sh', '2', ROOT / 'tests/distributed_worker.py']
        patch.setenv('PYTHONPATH', str(ROOT))
        done = subprocess.run(
            command,
            env=dict(ENV, PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=600,  # processes that wait for each other
        )
        assert done.returncode == 0, done.stdout + done.stderr
        Path('output.txt').write_text(done.stdout + done.stderr)
        torch.set_num_threads(1)
        for name, checkpoint in dict(cls='cls/epoch_1.pth', det='any.pth', seg='any.pth').items():
            args = [f'{name}.py', checkpoint, '--work-dir', f'one/work_{name}']
            assert run_test([*args, '--out', f'one/{name}.json']) == 0
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def here(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    return workspace


@pytest.mark.slow
def test_gradients_are_those_of_one_process_with_the_whole_batch(here):
    two, one = torch.load('gradients.pth'), gradients(8)
    assert two.keys() == one.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-6, atol=1e-12)
    assert one['backbone.stem.conv.weight'].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, metric', [('cls', 'accuracy/top1'), ('det', 'coco/bbox_mAP'), ('seg', 'mIoU')]
)
def test_an_evaluation_counts_every_sample_once(here, name, metric):
    two, one = (json.loads(Path(f'{n}/{name}.json').read_text()) for n in ('two', 'one'))
    assert two['metrics'] == pytest.approx(one['metrics'], rel=1e-6)
    assert 0 < one['metrics'][metric] < 100
    images = [prediction['image'] for prediction in one['predictions']]
    assert len(set(images)) == IMAGES
    assert [prediction['image'] for prediction in two['predictions']] == images


@pytest.mark.slow
@pytest.mark.parametrize('name', ['cls', 'det', 'seg'])
def test_every_image_is_drawn_once(here, name):
    images = [p['image'] for p in json.loads(Path(f'two/{name}.json').read_text())['predictions']]
    expected = [f'{i:06d}_{Path(image).stem}.png' for i, image in enumerate(images)]
    assert sorted(os.listdir(f'two/{name}')) == expected


@pytest.mark.slow
def test_one_process_writes(here):
    first = json.loads(Path('first.json').read_text())
    runs = [name for name in first if name.startswith('2')]
    files = ['cls.py', 'epoch_1.pth', 'last_checkpoint']
    assert len(runs) == 1
    assert set(files) < set(first)
    assert all(name.startswith('best_accuracy') for name in {*first} - {*files, *runs})
    assert len(list(Path('cls', runs[0]).glob('*.log'))) == 1
    assert len(list(Path('cls', runs[0], 'vis_data').glob('2*.json'))) == 1
    assert sorted(os.listdir('two')) == sorted(
        f'{prefix}{name}{suffix}'
        for name in ('cls', 'det', 'seg')
        for prefix, suffix in (('', ''), ('', '.json'), ('work_', ''))
    )


@pytest.mark.slow
def test_two_processes_build_the_embedded_data(here):
    assert sorted(os.listdir('data')) == ['digits', 'scenes']
    assert len(list(Path('data/digits').rglob('*.png'))) == 1797


@pytest.mark.slow
def test_the_learning_rate_follows_the_images_of_all_processes(here):
    first, *_ = sorted(Path('cls').glob('*/vis_data/2*.json'))
    records = [json.loads(line) for line in first.read_text().splitlines()]
    assert [record['lr'] for record in records if 'loss' in record] == [4e-3] * 3


@pytest.mark.slow
def test_a_resumed_training_goes_on(here):
    assert 'resumed epoch: 1, iter: 3' in Path('output.txt').read_text()
    first, second = (torch.load(f'cls/epoch_{i}.pth', weights_only=False) for i in (1, 2))
    assert (second['meta']['epoch'], second['meta']['iter']) == (2, 6)
    steps = [
        {int(entry['step']) for entry in checkpoint['optimizer']['state'].values()}
        for checkpoint in (first, second)
    ]
    assert steps == [{3}, {6}]


@pytest.mark.slow
def test_all_processes_validate_the_model_that_is_saved(here):
    saved = torch.load('cls/epoch_1.pth', weights_only=False)['state_dict']
    for rank in range(2):
        buffers = torch.load(f'buffers_{rank}.pth')
        running = [name for name in buffers if 'running_' in name]
        assert running
        for name in running:
            torch.testing.assert_close(buffers[name], saved[name], rtol=0, atol=0)


@pytest.mark.slow
def test_detectors_and_decoders_train(here):
    assert torch.load('det_trained/epoch_1.pth', weights_only=False)['meta']['iter'] == 2
    assert torch.load('seg_trained/iter_2.pth', weights_only=False)['meta']['iter'] == 2


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_after_the_same_step(here):
    assert 'cut/interrupted.pth; go on with --resume' in Path('output.txt').read_text()
    assert losses('cut') == pytest.approx(losses('whole'), abs=1e-5)
    assert len(losses('whole')) == 12
    one, two = (torch.load(f'{n}/epoch_2.pth', weights_only=False) for n in ('cut', 'whole'))
    for key in ('state_dict', 'ema_state_dict'):
        for name, tensor in two[key].items():
            torch.testing.assert_close(one[key][name], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_one_process_goes_on_at_the_image_where_two_were_cut_off(here):
    """After 9 steps of 4 images, 24 of them an epoch; 12 are left, in steps of 2."""
    assert run_train(['faulty.py', '--work-dir', 'kept', '--resume']) == 0
    saved = torch.load('kept/epoch_2.pth', weights_only=False)
    assert saved['meta']['iter'] == 9 + 12 // 2
    logs = ''.join(file.read_text() for file in Path('kept').glob('*/*.log'))
    assert 'a step has 2 images, and had 4 when this was saved' in logs


@pytest.mark.slow
@pytest.mark.parametrize('name', ['skipped', 'back'])
def test_a_bad_loss_of_one_process_is_left_out_by_all(here, name):
    """Steps before it are those of a whole training, also where they were made again."""
    found, whole = losses(name), losses('whole')
    assert len(found) == 12 and found[9] == found[8]
    assert all(found[step] == pytest.approx(whole[step], abs=1e-5) for step in range(1, 9))
    assert found[12] != pytest.approx(whole[12], abs=1e-5)
    assert list(Path(name).glob('bad_batch_iter_9_process_*.pth'))


@pytest.mark.slow
@pytest.mark.parametrize('to_all', [False, True], ids=['launcher', 'all'])
def test_a_signal_saves(here, to_all):
    """To the launcher alone, or to its processes as well, to which it passes it on."""
    work_dir = f'told_{to_all}'
    command = ['bash', TOOLS / 'dist_train.sh', 'long.py', '2', '--work-dir', work_dir]
    process = subprocess.Popen(
        command, env=dict(ENV, PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE, stderr=STDOUT
    )
    while process.poll() is None and not losses(work_dir):
        time.sleep(0.2)
    told = children(process.pid) if to_all else []
    assert len(told) == 2 * to_all
    for number in (*told, process.pid):
        os.kill(number, signal.SIGTERM)
    said = process.communicate()[0].decode()
    assert process.returncode == 128 + signal.SIGTERM, said
    assert said.count(f'{work_dir}/interrupted.pth; go on with --resume') == 1
    assert 'Traceback' not in said and 'terminate called' not in said
    assert newest_intact(work_dir) == f'{work_dir}/interrupted.pth'


@pytest.mark.slow
def test_a_dry_run_has_one_report(here):
    assert Path('output.txt').read_text().count('\ndisk: a checkpoint ') == 1
    assert not Path('dry').exists()


@pytest.mark.slow
def test_nothing_is_warned_of(here):
    output = Path('output.txt').read_text()
    assert 'do not match bucket view strides' not in output
    assert 'destroy_process_group' not in output


def test_processes_have_one_thread_unless_told(tmp_path, monkeypatch):
    """Without a warning of torchrun's that it chose so."""
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / 'tell.py').write_text(
        'import os\n'
        "path = os.path.join(os.path.dirname(__file__), os.environ['RANK'])\n"
        "open(path, 'w').write(os.environ['OMP_NUM_THREADS'])\n"
    )
    assert script('torchrun.sh', '2', tmp_path / 'tell.py', PYTHON=sys.executable) == ([], 0, '')
    assert [(tmp_path / rank).read_text() for rank in '01'] == ['1', '1']


def test_processes_draw_different_fresh_images(monkeypatch):
    drawn = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        sampler = EpochSampler(range(6), shuffle=False, seed=0)
        sampler.set_epoch(3)
        drawn.append(list(sampler))
    assert drawn == [[18, 20, 22], [19, 21, 23]]


@pytest.fixture
def norms_of(monkeypatch):
    """A function: the norms of a backbone that a segmentation config's runner has wrapped."""

    def build(device, launcher, **settings):
        monkeypatch.setenv('LOCAL_RANK', '0')
        monkeypatch.setattr('mmlolvit.cli.samples.get_device', lambda: device)
        monkeypatch.setattr('mmlolvit.cli.samples.MODEL_WRAPPERS', SimpleNamespace(build=bare))
        monkeypatch.setattr('mmengine.runner.runner.MMDistributedDataParallel', bare)
        runner = GuardedRunner.__new__(GuardedRunner)
        runner.cfg = Config.fromfile(ROOT / 'configs' / SEG)
        runner.cfg.merge_from_dict(settings)
        runner.logger = SimpleNamespace(info=str)
        runner._distributed = launcher != 'none'
        model = MODELS.build(dict(type='mmlolvit.LOLViT', arch='xx', **runner.cfg.get('own', {})))
        names = list(model.state_dict())
        model = runner.wrap_model(None, model).train()
        assert list(model.state_dict()) == names
        return [module for module in model.modules() if isinstance(module, _BatchNorm)]

    def bare(cfg=None, default_args=None, module=None, **options):
        return module or default_args['module']

    return build


@pytest.mark.parametrize('norm_eval', [False, True])
def test_batchnorm_is_synchronised_on_gpus(norms_of, norm_eval):
    norms = norms_of('cuda', 'pytorch', own=dict(norm_eval=norm_eval))
    assert norms and all(isinstance(norm, SyncBatchNorm) for norm in norms)
    assert {norm.training for norm in norms} == {not norm_eval}


@pytest.mark.parametrize(
    'device, launcher, settings',
    [
        ('cpu', 'pytorch', dict(own=dict(norm_cfg=dict(type='SyncBN')))),
        ('cpu', 'none', dict(own=dict(norm_cfg=dict(type='SyncBN')))),
        ('cuda', 'none', {}),
        ('cuda', 'pytorch', dict(sync_bn=None)),
    ],
)
def test_batchnorm_is_not_synchronised_elsewhere(norms_of, device, launcher, settings):
    norms = norms_of(device, launcher, **settings)
    assert norms and not any(isinstance(norm, SyncBatchNorm) for norm in norms)


def test_sync_bn_has_one_of_two_names(norms_of):
    with pytest.raises(UserError, match="None, 'torch' or 'mmcv', got True"):
        norms_of('cpu', 'none', sync_bn=True)


@pytest.mark.parametrize(
    'rank, local_rank, pause', [(0, 0, 0), (1, 1, 2 * GRACE), (8, 0, GRACE), (9, 1, 2 * GRACE)]
)
def test_an_error_of_all_is_reported_by_the_first(monkeypatch, rank, local_rank, pause):
    pauses = []
    monkeypatch.setattr(distributed.time, 'sleep', pauses.append)
    monkeypatch.setenv('RANK', str(rank))
    monkeypatch.setenv('LOCAL_RANK', str(local_rank))
    monkeypatch.setenv('WORLD_SIZE', '16')
    wait_to_speak()
    assert pauses == [pause]


def test_a_process_that_waits_to_speak_ends_as_the_first_did():
    """srun ends with the highest code of all, and SIGTERM's says that a training was saved."""
    program = (
        'import os, signal\n'
        'from mmlolvit.cli import distributed\n'
        'distributed.time.sleep = lambda seconds: os.kill(os.getpid(), signal.SIGTERM)\n'
        'distributed.wait_to_speak()\n'
    )
    env = dict(os.environ, SLURM_PROCID='1', SLURM_LOCALID='1', SLURM_NTASKS='2')
    assert subprocess.run([sys.executable, '-c', program], env=env).returncode == 2


def test_an_error_of_the_only_process_is_reported_at_once(monkeypatch):
    monkeypatch.setattr(distributed.time, 'sleep', pytest.fail)
    wait_to_speak()


TORCHRUN = dict(TORCHELASTIC_RUN_ID='x', RANK='2', LOCAL_RANK='2', WORLD_SIZE='3')


@pytest.mark.parametrize(
    'launcher, variables, message',
    [
        ('none', TORCHRUN, 'torchrun started 3 processes, .* add --launcher pytorch'),
        ('pytorch', {}, 'tools/dist_train.sh CONFIG GPUS.* not set: RANK, LOCAL_RANK, WORLD_SIZE'),
        ('slurm', TORCHRUN, 'tools/slurm_train.sh .* not set: SLURM_PROCID'),
        ('mpi', {}, 'mpirun.* MASTER_ADDR'),
        ('pytorch', TORCHRUN, 'this machine has 2, and at least 3 were started'),
    ],
)
def test_processes_that_cannot_meet_are_refused(monkeypatch, launcher, variables, message):
    monkeypatch.setattr(os, 'environ', dict(variables))
    monkeypatch.setattr(distributed, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with pytest.raises(UserError, match=message):
        join(Config(dict(launcher=launcher)))


def script(name, *args, **variables):
    """The words that a script of tools/ prints, its exit code and its errors."""
    env = dict(os.environ, **variables)
    for variable in ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'GPUS', 'GPUS_PER_NODE'):
        if variable not in variables:
            env.pop(variable, None)
    done = subprocess.run(['bash', TOOLS / name, *args], env=env, capture_output=True, text=True)
    return done.stdout.splitlines(), done.returncode, done.stderr


@pytest.fixture
def programs(tmp_path):
    """Variables with which the scripts call programs that print their arguments."""
    for name in ('python', 'srun'):
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)
    return dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', PYTHON='python')


@pytest.mark.slow
@pytest.mark.parametrize('code', [2, 130, 143])
def test_the_launcher_ends_as_its_processes(tmp_path, code):
    (tmp_path / 'ends.py').write_text(f'raise SystemExit({code})')
    assert script('torchrun.sh', '1', tmp_path / 'ends.py', PYTHON=sys.executable)[1] == code


def test_dist_train_starts_a_process_for_each_gpu(programs):
    said, code, _ = script('dist_train.sh', 'my config.py', '4', '--amp', 'a b', **programs)
    assert code == 0
    assert said[-7:] == [
        *('--nproc-per-node=4', str(TOOLS / 'train.py'), 'my config.py'),
        *('--launcher', 'pytorch', '--amp', 'a b'),
    ]
    assert '--standalone' in said


def test_dist_test_starts_a_process_on_each_gpu_of_each_node(programs):
    nodes = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='first', PORT='1234')
    said, code, _ = script('dist_test.sh', 'c.py', 'c.pth', '8', '--tta', **programs, **nodes)
    assert code == 0
    assert said[2:] == [
        *('--nnodes=2', '--node-rank=1', '--master-addr=first', '--master-port=1234'),
        *('--nproc-per-node=8', str(TOOLS / 'test.py'), 'c.py', 'c.pth'),
        *('--launcher', 'pytorch', '--tta'),
    ]


@pytest.mark.parametrize('missing', ['NODE_RANK', 'MASTER_ADDR'])
def test_several_nodes_are_told_apart(programs, missing):
    nodes = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='first')
    del nodes[missing]
    said, code, errors = script('dist_train.sh', 'c.py', '8', **programs, **nodes)
    assert (said, code) == ([], 2) and 'NNODES=2: set NODE_RANK, from 0 on, and MASTER' in errors


def test_slurm_train_asks_for_the_gpus(programs):
    options = dict(GPUS='4', SRUN_ARGS='--qos high')
    said, code, _ = script('slurm_train.sh', 'gpu', 'job', 'c.py', '--amp', **programs, **options)
    assert code == 0
    assert {'--partition=gpu', '--job-name=job', '--ntasks=4', '--gres=gpu:4'} < set(said)
    assert said[said.index('--qos') + 1 :] == [
        *('high', 'python', '-u', str(TOOLS / 'train.py'), 'c.py'),
        *('--launcher', 'slurm', '--amp'),
    ]


@pytest.mark.parametrize(
    'name, args',
    [
        ('dist_train.sh', ['c.py']),
        ('dist_train.sh', ['c.py', '--amp']),
        ('dist_train.sh', ['c.py', '0']),
        ('dist_test.sh', ['c.py', '8']),
        ('dist_test.sh', ['c.py', '8', 'c.pth']),
        ('slurm_train.sh', ['gpu', 'job']),
    ],
)
def test_scripts_say_what_they_expect(programs, name, args):
    said, code, errors = script(name, *args, **programs)
    assert (said, code) == ([], 2)
    assert errors.startswith(f'usage: bash tools/{name} ')


def test_scripts_are_clean():
    shellcheck = Path(sys.executable).with_name('shellcheck')  # of requirements/dev.txt
    subprocess.run([shellcheck, *TOOLS.glob('*.sh')], check=True)
