"""tools/train.py and tools/test.py, on a handful of real handwritten digits."""

import base64
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPERS
from mmengine.structures import InstanceData
from sklearn.datasets import load_digits

from mmlolvit.checkpoints import newest_intact
from mmlolvit.cli.backbone import (
    check_pretrained,
    find_init,
    find_pretrained,
    keep_norm_eval,
    start_backbone,
)
from mmlolvit.cli.common import exits
from mmlolvit.cli.publish_model import main as run_publish
from mmlolvit.cli.test import main as run_test
from mmlolvit.cli.train import find_start, use_cpu_amp
from mmlolvit.cli.train import main as run_train
from mmlolvit.errors import UserError
from mmlolvit.models import LOLViT
from mmlolvit.models.lolvit import ARCHS
from mmlolvit.tasks import TASKS, plain

from .helpers import exit_code

pytestmark = pytest.mark.usefixtures('one_thread')
ROOT = Path(__file__).parents[1]
ENV = dict(os.environ, OMP_NUM_THREADS='1')
TRAIN_IMAGES, VAL_IMAGES = 24, 10

CONFIG = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmlolvit.LOLViT', arch='xx'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=XX_CHANNELS),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
dataset = dict(type='CustomDataset', data_root='digits', pipeline=pipeline)
loader = dict(batch_size=8, num_workers=0, collate_fn=dict(type='default_collate'))
train_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, data_prefix='train'),
)
val_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, data_prefix='val'),
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy', topk=1)
tta_model = dict(type='AverageClsScoreTTA')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='PackInputs')],
        ],
    ),
]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
param_scheduler = dict(
    type='OneCycleLR', eta_max=1e-3, total_steps=4, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=4)
val_cfg = test_cfg = dict()
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1), checkpoint=dict(type='CheckpointHook', interval=1)
)
""".replace('XX_CHANNELS', str(ARCHS['xx']['channels'][-1]))


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with images, a config and, from a real training run, a checkpoint."""
    folder = tmp_path_factory.mktemp('tools')
    digits = load_digits()
    for i in range(VAL_IMAGES + TRAIN_IMAGES):
        split = 'val' if i < VAL_IMAGES else 'train'
        path = folder / 'digits' / split / str(digits.target[i]) / f'{i // 10}.png'  # names repeat
        path.parent.mkdir(parents=True, exist_ok=True)
        image = cv2.resize((digits.images[i] * 15.9).astype(np.uint8), (32, 32))
        cv2.imwrite(str(path), image)
    (folder / 'tiny.py').write_text(CONFIG)
    (folder / 'afile').write_text('a file where a folder is wanted')
    (folder / 'hollow' / 'train').mkdir(parents=True)
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'work_dir=loser']
    trained = tool('train.py', 'tiny.py', '--work-dir', 'trained', *options, cwd=folder)
    assert trained.returncode == 0, trained.stderr
    return folder


@pytest.fixture
def here(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    return workspace


def tool(name, *args, cwd):
    command = [sys.executable, ROOT / 'tools' / name, *args]
    return subprocess.run(command, cwd=cwd, env=ENV, capture_output=True, text=True)


def losses(work_dir):
    """Iteration -> training loss, over all runs in a work dir."""
    lines = [
        line
        for f in Path(work_dir).glob('*/vis_data/2*.json')
        for line in f.read_text().splitlines()
    ]
    records = [json.loads(line) for line in lines]
    return {record['step']: record['loss'] for record in records if 'loss' in record}


def assert_same(a, b):
    """Nested containers of tensors and numbers, equal to 1e-5."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    else:
        assert a == pytest.approx(b, rel=1e-5) if isinstance(a, float) else a == b


def test_flags_win_over_cfg_options(workspace):
    assert (workspace / 'trained' / 'epoch_1.pth').is_file()
    assert not (workspace / 'trained' / 'epoch_2.pth').exists()
    assert not (workspace / 'loser').exists()


def test_test_writes_metrics_predictions_and_every_drawing(workspace):
    args = ['--out', 'out/result.json', '--show-dir', 'shown', '--work-dir', 'tested']
    done = tool('test.py', 'tiny.py', 'trained/epoch_1.pth', *args, cwd=workspace)
    assert done.returncode == 0, done.stderr

    result = json.loads((workspace / 'out/result.json').read_text())
    assert os.listdir(workspace / 'out') == ['result.json']
    assert (result['config'], result['checkpoint']) == ('tiny.py', 'trained/epoch_1.pth')
    predictions = result['predictions']
    assert len({p['image'] for p in predictions}) == VAL_IMAGES
    assert all(Path(p['image']).parent.name == str(p['gt_label']) for p in predictions)
    assert all(p['top_labels'][0] == p['pred_label'] for p in predictions)
    right = sum(p['pred_label'] == p['gt_label'] for p in predictions)
    assert result['metrics']['accuracy/top1'] == pytest.approx(100 * right / VAL_IMAGES)

    shown = sorted((workspace / 'shown').iterdir())
    assert [int(file.name[:6]) for file in shown] == list(range(VAL_IMAGES))
    assert cv2.imread(str(shown[0])).std() > 0


def test_a_shipped_config_runs_without_workers_and_draws_images_that_have_no_file(tmp_path):
    config, work_dir = str(ROOT / 'configs/cls/lolvit_x_cue_far.py'), str(tmp_path)
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    few = [f'{loader}.dataset.length=2' for loader in loaders]
    options = ['--cfg-options', *few, *(f'{loader}.num_workers=0' for loader in loaders)]
    one = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=2', 'train_cfg.val_interval=2']
    assert run_train([config, '--work-dir', work_dir, *options, *one]) == 0
    shown = tmp_path / 'shown'
    args = [str(tmp_path / 'epoch_1.pth'), '--work-dir', work_dir, '--show-dir', str(shown)]
    assert run_test([config, *args, *options]) == 0
    assert [cv2.imread(str(file)).shape[2] for file in shown.iterdir()] == [3, 3]


def test_tta_uses_the_configs_pipeline(here):
    args = ['trained/epoch_1.pth', '--work-dir', 'tta', '--show-dir', 'tta/shown']
    assert run_test(['tiny.py', *args, '--tta']) == 0
    assert Config.fromfile('tta/tiny.py').model.type == 'AverageClsScoreTTA'
    assert len(os.listdir('tta/shown')) == VAL_IMAGES


@pytest.mark.slow
def test_resume_after_a_kill_equals_an_uninterrupted_run(here, capfd):
    killed = subprocess.Popen(
        [sys.executable, ROOT / 'tools/train.py', 'tiny.py', '--work-dir', 'killed'],
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in killed.stdout:
        if 'Epoch(train) [3][2/3]' in line:
            killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    whole = Path('killed/epoch_2.pth').read_bytes()
    Path('killed/epoch_3.pth').write_bytes(whole[: len(whole) // 2])
    seed = torch.load('killed/epoch_2.pth', weights_only=False)['meta']['seed']

    capfd.readouterr()
    assert run_train(['tiny.py', '--work-dir', 'killed', '--resume']) == 0
    output = ''.join(capfd.readouterr())
    assert 'warning: passed over: killed/epoch_3.pth' in output
    assert 'resumed epoch: 2, iter: 6' in output

    options = ['--cfg-options', f'randomness.seed={seed}']
    assert run_train(['tiny.py', '--work-dir', 'straight', *options]) == 0
    expected = losses('straight')
    assert set(expected) == set(range(1, 13))
    assert losses('killed') == pytest.approx(expected, abs=1e-5)
    resumed, straight = (
        torch.load(f'{name}/epoch_4.pth', weights_only=False) for name in ('killed', 'straight')
    )
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_same(resumed[part], straight[part])
    for counter in ('epoch', 'iter', 'seed'):
        assert resumed['meta'][counter] == straight['meta'][counter]


def test_resume_starts_anew_where_there_is_nothing_to_resume(here, tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='trained/epoch_1.pth'))
    assert find_start(cfg, resume='') is None
    assert cfg.load_from == 'trained/epoch_1.pth'
    assert not cfg.get('resume')


def test_newest_checkpoint_is_the_one_saved_last(here, tmp_path):
    whole = Path('trained/epoch_1.pth').read_bytes()
    for age, name in enumerate(['epoch_2.pth', 'epoch_10.pth', 'best_epoch_3.pth']):
        (tmp_path / name).write_bytes(whole)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    assert newest_intact(str(tmp_path)) == str(tmp_path / 'epoch_2.pth')
    later = torch.load('trained/epoch_1.pth', weights_only=False)
    later['meta']['time'] = '29991231_235959'
    torch.save(later, tmp_path / 'epoch_10.pth')
    os.utime(tmp_path / 'epoch_10.pth', (1e8, 1e8))  # as it was copied
    assert newest_intact(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')


def test_a_checkpoint_of_another_name_is_found(here, tmp_path):
    other = tmp_path / 'elsewhere' / 'mine_1.pth'
    other.parent.mkdir()
    other.write_bytes(Path('trained/epoch_1.pth').read_bytes())
    assert newest_intact(str(tmp_path)) is None
    (tmp_path / 'last_checkpoint').write_text(str(other))
    assert newest_intact(str(tmp_path)) == str(other)


def test_backbone_checkpoint_gives_its_weights_to_fewer_stages(here):
    options = ['train_cfg.max_epochs=1', 'model.backbone.out_indices=2', 'custom_hooks=[]']
    options += [
        f'model.head.in_channels={ARCHS["xx"]["channels"][2]}',
        'param_scheduler=None',
        'val_cfg=None',
    ]
    options += ['val_dataloader=None', 'val_evaluator=None', 'optim_wrapper.optimizer.lr=0.0']
    args = ['--backbone-checkpoint', 'trained/epoch_1.pth', '--work-dir', 'started']
    assert run_train(['tiny.py', *args, '--cfg-options', *options]) == 0
    given, started = (
        torch.load(f'{name}/epoch_1.pth', weights_only=False)['state_dict']
        for name in ('trained', 'started')
    )
    names = [k for k in started if k.startswith('backbone.') and k.endswith('conv.weight')]
    assert names and not any(name.startswith('backbone.stages.3') for name in names)
    for name in names:
        torch.testing.assert_close(started[name], given[name])
    log = next(Path('started').glob('*/*.log')).read_text()
    total = sum(name.startswith('backbone.') for name in started)
    assert f'Loaded {total} of {total} backbone tensors' in log


def starting_from(checkpoint, prefix, **train_dataloader):
    init = dict(type='Pretrained', checkpoint=checkpoint, prefix=prefix)
    backbone = dict(type='mmlolvit.LOLViT', arch='xx', out_indices=(1, 2, 3), init_cfg=init)
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(backbone=backbone),
            train_dataloader=train_dataloader,
        )
    )


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.'])
def test_a_config_may_name_the_pretrained_backbone(here, prefix):
    cfg = starting_from('trained/epoch_1.pth', prefix)
    model = torch.nn.ModuleDict(dict(backbone=MODELS.build(cfg.model.backbone)))
    line = check_pretrained(model, **find_pretrained(cfg))
    total = len(model.backbone.state_dict())
    assert line == f'Loaded {total} of {total} backbone tensors from trained/epoch_1.pth.'


def test_a_pretrained_backbone_without_its_prefix_is_refused(here):
    cfg = starting_from('trained/epoch_1.pth', None)
    model = torch.nn.ModuleDict(dict(backbone=MODELS.build(cfg.model.backbone)))
    with pytest.raises(UserError, match=r'stem.conv.weight is missing') as refusal:
        check_pretrained(model, **find_pretrained(cfg))
    assert all(f'{name} is missing' in str(refusal.value) for name in model.backbone.state_dict())


@pytest.mark.parametrize('batch_size, said, kept', [(2, None, True), (8, None, None), (2, 0, 0)])
def test_small_batches_keep_pretrained_statistics(batch_size, said, kept):
    cfg = starting_from('some.pth', 'backbone.', batch_size=batch_size)
    if said is not None:
        cfg.model.backbone.norm_eval = said
    find_pretrained(cfg)
    assert cfg.model.backbone.get('norm_eval') == kept
    resumed = starting_from('some.pth', 'backbone.', batch_size=batch_size)
    keep_norm_eval(resumed, dict(meta=dict(norm_eval=cfg.model.backbone.get('norm_eval'))))
    assert resumed.model.backbone.get('norm_eval') == (kept or None)


def test_other_backbones_load_as_their_library_does():
    cfg = starting_from('torchvision://resnet50', None, batch_size=2)
    cfg.model.backbone = dict(type='ResNet', depth=50, init_cfg=cfg.model.backbone.init_cfg)
    before = cfg.to_dict()
    assert find_pretrained(cfg) is None
    assert find_init(cfg)['checkpoint'] == 'torchvision://resnet50'
    assert cfg.to_dict() == before
    start_backbone(cfg, 'resnet.pth')
    assert find_pretrained(cfg) == dict(checkpoint='resnet.pth', prefix='backbone.')
    assert cfg.model.backbone.norm_eval is True


def published(capsys, *args):
    capsys.readouterr()
    assert run_publish(list(args)) == 0
    return Path(capsys.readouterr().out.splitlines()[-1].split(':')[0])


def test_published_weights_are_small_safe_and_those_that_were_tested(here, capsys, tmp_path):
    file = published(capsys, 'trained/epoch_1.pth', str(tmp_path / 'tiny.pth'))
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(file.stem.split('-')[1])
    assert file == published(capsys, 'trained/epoch_1.pth', str(tmp_path / 'tiny.pth'))
    assert os.listdir(tmp_path) == [file.name]

    content = torch.load(file, weights_only=True)
    trained = torch.load('trained/epoch_1.pth', weights_only=False)
    averaged = trained['state_dict']  # the run had an EMA
    last = trained['ema_state_dict']['module.head.fc.weight']  # MMEngine swaps the two
    assert not torch.equal(averaged['head.fc.weight'], last)
    assert_same(content['state_dict'], dict(averaged))
    size = sum(tensor.nbytes for tensor in averaged.values())
    assert file.stat().st_size < 1.2 * size
    assert content['meta']['dataset_meta'] == plain(trained['meta']['dataset_meta'])

    for name, checkpoint in dict(before='trained/epoch_1.pth', after=str(file)).items():
        args = ['tiny.py', checkpoint, '--work-dir', 'scratch', '--out', f'{name}.json']
        assert run_test(args) == 0
    before, after = (json.loads(Path(f'{name}.json').read_text()) for name in ('before', 'after'))
    assert before['predictions'] == after['predictions']


def test_published_weights_hold_no_secret_of_another_tool(here, capsys, tmp_path):
    checkpoint = torch.load('trained/epoch_1.pth', weights_only=False)
    text = "token = 'hidden-in-text'\nload_from = 'https://me:hidden-in-a-link@example.com/x'\n"
    checkpoint['meta'] |= dict(cfg=text, config=text, note=[dict(api_key='hidden-in-a-dict')])
    torch.save(checkpoint, tmp_path / 'other.pth')
    file = published(capsys, str(tmp_path / 'other.pth'), str(tmp_path / 'tiny.pth'))
    assert b'hidden-in' not in file.read_bytes()
    assert torch.load(file, weights_only=True)['meta']['note'] == [dict(api_key='...')]


def test_a_published_backbone_starts_another_model(here, capsys, tmp_path):
    args = ['trained/epoch_1.pth', str(tmp_path / 'b.pth'), '--backbone-only']
    file = published(capsys, *args)
    weights = torch.load(file, weights_only=True)['state_dict']
    backbone = LOLViT('xx')
    backbone.load_state_dict({k.removeprefix('backbone.'): v for k, v in weights.items()})
    model = torch.nn.ModuleDict(dict(backbone=LOLViT('xx')))
    assert check_pretrained(model, str(file), 'backbone.').startswith('Loaded ')


def test_amp_without_an_accelerator_is_bfloat16(monkeypatch):
    monkeypatch.setattr('mmlolvit.cli.train.get_device', lambda: 'cpu')
    model = torch.nn.Linear(2, 2)
    cfg = Config(dict(optim_wrapper=dict(type='AmpOptimWrapper', loss_scale='dynamic')))
    use_cpu_amp(cfg)
    wrapper = OPTIM_WRAPPERS.build(
        dict(cfg.optim_wrapper, optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    )
    before = model.weight.clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(1, 2))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.sum())
    assert not torch.equal(model.weight, before)


def option(setting):
    return ['--cfg-options', setting]


X_CHANNELS = ARCHS['x']['channels'][-1]
OTHER_ARCH = [
    '--cfg-options',
    'model.backbone.arch=x',
    f'model.head.in_channels={X_CHANNELS}',
]
BAD_TRAINING = {
    'batch size': (
        ['tiny.py', *option('train_dataloader.batch_size=0')],
        'the config: PlacedBatchSampler refuses it: batch_size',
        'got batch_size=0',
    ),
    'no epoch': (
        ['tiny.py', *option('train_cfg.max_epochs=0')],
        'train_cfg.max_epochs: expected a number from 1',
        'got 0',
    ),
    'learning rate': (
        ['tiny.py', *option('optim_wrapper.optimizer.lr=-1.0')],
        'the config: AdamW refuses it',
        'Invalid learning rate: -1.0',
    ),
    'validation by halves': (
        ['tiny.py', *option('val_dataloader=None')],
        'the config: Runner refuses it',
        'val_cfg',
    ),
    'config missing': (['lolvit_x_digit.py'], 'does not exist; did you mean', 'lolvit_x_digits'),
    'config syntax': (['syntax.py'], 'syntax error', 'syntax.py, line 2'),
    'base syntax': (['based.py'], 'syntax error', 'syntax.py, line 2'),
    'base missing': (['orphan.py'], 'cannot be read', 'gone.py'),
    'config of no task': (['partial.py'], 'lacks model', '_base_'),
    'scope': (['tiny.py', *option('default_scope=mmfoo')], 'must be one of mmpretrain', 'mmfoo'),
    'library': (['tiny.py', *option('default_scope=mmseg')], 'mmseg is not installed', 'pip'),
    'library of a part': (
        ['tiny.py', *option('model.backbone.type=mmseg.ResNetV1c')],
        'mmseg is not installed',
        'pip install',
    ),
    'option without value': (['tiny.py', *option('abc')], 'expects KEY=VALUE', 'abc'),
    'option brackets': (['tiny.py', *option('a=[1,(2]')], 'expects KEY=VALUE', 'a=[1,(2]'),
    'option call': (
        ['tiny.py', *option('a=dict(b=1,c=2)')],
        'expects KEY=VALUE',
        'a=dict(b=1,c=2)',
    ),
    'option index': (['tiny.py', *option('pipeline.9.type=X')], 'do not fit', 'Index 9'),
    'seed': (['tiny.py', *option('randomness.seed=-1')], 'randomness.seed', 'got -1'),
    'channels of a part': (
        ['tiny.py', *option('model.head.in_channels=100')],
        'model.head.fc is not made for what it is given',
        '100x',
    ),
    'model type': (
        ['tiny.py', *option('model.backbone.type=mmlolvit.LOLVit')],
        "unknown model type 'mmlolvit.LOLVit'",
        'did you mean mmlolvit.LOLViT',
    ),
    'norm type': (['tiny.py', *option('model.backbone.norm_cfg.type=BNN')], "'BNN'", 'mean BN?'),
    'transform type': (
        ['tiny.py', *option('train_dataloader.dataset.pipeline.0.type=LoadImage')],
        "unknown transform type 'LoadImage'",
        'did you mean',
    ),
    'optimizer type': (
        ['tiny.py', *option('optim_wrapper.optimizer.type=AdamV')],
        "unknown optimizer type 'AdamV'",
        'did you mean',
    ),
    'optimizer wrapper type': (
        ['tiny.py', *option('optim_wrapper.type=OptimWraper')],
        "'OptimWraper'",
        'did you mean OptimWrapper',
    ),
    'collate function': (
        ['tiny.py', *option('train_dataloader.collate_fn.type=default_colate')],
        "unknown function type 'default_colate'",
        'did you mean default_collate',
    ),
    'argument': (
        ['tiny.py', *option('model.backbone.archh=x')],
        "LOLViT got an unexpected keyword argument 'archh'",
        'did you mean arch?',
    ),
    'argument that is missing': (
        ['tiny.py', *option('model.neck.type=LinearNeck')],
        'LinearNeck missing 2 required positional arguments',
        "'in_channels'",
    ),
    'arch': (['tiny.py', *option('model.backbone.arch=y')], 'arch must be one of', "'y'"),
    'out_indices': (['tiny.py', *option('model.backbone.out_indices=4')], 'out_indices', '4'),
    'channels': (['tiny.py', *option('model.backbone.in_channels=1')], '(B, 1, H, W)', '(8, 3,'),
    'data missing': (
        [str(ROOT / 'configs/cls/lolvit_x_in1k.py'), '--work-dir', 'scratch'],
        'data/imagenet/train does not exist',
        'https://image-net.org',
    ),
    'data empty': (
        ['tiny.py', *option('train_dataloader.dataset.data_root=hollow')],
        'folder hollow/train holds no files',
        'train_dataloader.dataset.data_root=',
    ),
    'annotations missing': (
        ['tiny.py', *option('val_dataloader.dataset.ann_file=gone.txt')],
        'annotation file digits/gone.txt does not exist',
        'val_dataloader.dataset.data_root=',
    ),
    'work dir': (['tiny.py', '--work-dir', 'afile/run'], 'cannot write', 'afile/run'),
    'no base batch size': (['tiny.py', '--auto-scale-lr'], 'base_batch_size', 'auto_scale_lr ='),
    'load_from missing': (['tiny.py', *option('load_from=gone.pth')], 'gone.pth', 'not exist'),
    'resume missing': (['tiny.py', '--resume', 'gone.pth'], 'gone.pth', 'not exist'),
    'resume weights only': (['tiny.py', '--resume', 'bare.pth'], 'optimizer', 'load_from='),
    'resume other arch': (
        ['tiny.py', '--resume', 'trained/epoch_1.pth', *OTHER_ARCH],
        'tensors differ',
        'expected (',
    ),
    'backbone of other arch': (
        ['tiny.py', '--backbone-checkpoint', 'trained/epoch_1.pth', *OTHER_ARCH],
        'tensors differ',
        'expected (',
    ),
}
BAD_TESTING = {
    'missing': (['trained/epoch_7.pth'], 'does not exist', 'there are epoch_1.pth'),
    'truncated': (['cut.pth'], 'cut.pth is cut short', ''),
    'damaged': (['damaged.pth'], 'damaged', ''),
    'text': (['afile'], 'no checkpoint', ''),
    'class that is gone': (['foreign.pth'], 'foreign.pth', 'gone_module'),
    'no weights': (['list.pth'], 'not a checkpoint', 'state_dict'),
    'other arch': (['trained/epoch_1.pth', *OTHER_ARCH], 'tensors differ', 'expected ('),
    'out suffix': (['trained/epoch_1.pth', '--out', 'x.pkl'], '.json', 'x.pkl'),
    'out is a folder': (['trained/epoch_1.pth', '--out', 'd.json'], 'is a folder', 'd.json'),
    'out folder': (['trained/epoch_1.pth', '--out', 'afile/x.json'], 'cannot write', 'afile'),
    'show-dir': (['trained/epoch_1.pth', '--show-dir', 'afile/x'], 'cannot write', 'afile/x'),
    'no tta': (
        ['trained/epoch_1.pth', '--tta', '--cfg-options', 'tta_model=None'],
        '--tta',
        'no tta_model',
    ),
}


BAD_PUBLISHING = {
    'missing': (['gone.pth', 'x.pth'], 'gone.pth', 'does not exist'),
    'name': (['trained/epoch_1.pth', 'x.onnx'], '.pth', 'x.onnx'),
    'folder': (['trained/epoch_1.pth', 'afile/x.pth'], 'cannot write', 'afile'),
    'no backbone': (['bare.pth', 'x.pth', '--backbone-only'], 'no tensor', 'backbone.'),
}


@pytest.fixture
def bad_files(here):
    Path('d.json').mkdir(exist_ok=True)
    Path('syntax.py').write_text("default_scope = 'mmpretrain'\nmodel = dict(type='X'\n")
    Path('based.py').write_text("_base_ = './syntax.py'\n")
    Path('orphan.py').write_text("_base_ = './gone.py'\n")
    Path('partial.py').write_text("default_scope = 'mmpretrain'\n")
    whole = Path('trained/epoch_1.pth').read_bytes()
    half = len(whole) // 2
    Path('cut.pth').write_bytes(whole[:half])
    Path('damaged.pth').write_bytes(whole[:half] + bytes(1000) + whole[half + 1000 :])
    torch.save([1, 2], 'list.pth')
    sys.modules['gone_module'] = type(sys)('gone_module')
    kind = type('Thing', (), dict(__module__='gone_module'))
    sys.modules['gone_module'].Thing = kind
    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), thing=kind()), 'foreign.pth')
    del sys.modules['gone_module']
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), 'bare.pth')


def refuses(main, args, words, capfd):
    code = exit_code(main, args)
    err = capfd.readouterr().err
    assert code == 2
    message = err[err.index('error: ') :]
    assert all(word in message for word in words)
    assert 'Traceback' not in message


@pytest.mark.parametrize('case', BAD_TRAINING)
def test_training_refuses_with_one_message(case, bad_files, capfd, monkeypatch):
    if 'library' in case:  # as if it were not installed, whatever was imported before
        for name in [name for name in sys.modules if name.split('.')[0] == 'mmseg']:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, 'mmseg', None)
        monkeypatch.delitem(MODELS.children, 'mmseg', raising=False)
    args, *words = BAD_TRAINING[case]
    args = args if '--work-dir' in args else [*args[:1], '--work-dir', 'scratch', *args[1:]]
    refuses(run_train, args, words, capfd)


@pytest.mark.parametrize('case', BAD_TESTING)
def test_testing_refuses_with_one_message(case, bad_files, capfd):
    args, *words = BAD_TESTING[case]
    refuses(run_test, ['tiny.py', '--work-dir', 'scratch', *args], words, capfd)


@pytest.mark.parametrize('case', BAD_PUBLISHING)
def test_publishing_refuses_with_one_message(case, bad_files, capfd):
    args, *words = BAD_PUBLISHING[case]
    refuses(run_publish, args, words, capfd)
    assert not list(Path().glob('x*'))


def test_tools_exit_with_2_and_no_traceback(workspace):
    done = tool('test.py', 'tiny.py', 'gone.pth', cwd=workspace)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith('error: checkpoint gone.pth does not exist')
    assert 'Traceback' not in done.stderr


def test_bugs_keep_their_traceback():
    @exits
    def main(argv):
        return int(*argv)

    with pytest.raises(ValueError, match='invalid literal'):
        main(['bug'])


@pytest.mark.parametrize(
    ('act', 'message'),
    [
        (lambda: Path('hollow').write_text(''), 'hollow cannot be read or written: Is a directory'),
        (lambda: Path('afile/x').read_text(), 'afile/x cannot be read or written: Not a directory'),
        (lambda: os.mkdir('afile'), 'afile cannot be read or written: File exists'),
        (lambda: os.replace('afile', 'hollow'), 'hollow cannot be read or written: Is a directory'),
        (lambda: Path(300 * 'n').is_file(), 'n cannot be read or written: File name too long'),
        (
            lambda: denied('closed/x'),  # root may read all
            'closed/x cannot be read or written: Permission denied',
        ),
        (lambda: '\udcff.png'.encode(), r"'\udcff.png' cannot be written as utf-8"),
    ],
)
def test_what_the_system_refuses_is_one_message(here, capsys, act, message):
    assert exits(lambda argv: act())([]) == 2
    assert message in capsys.readouterr().err


def denied(*path):
    raise PermissionError(errno.EACCES, 'Permission denied', *path)


@pytest.mark.parametrize('act', [denied, lambda: Path('gone').read_text(), lambda: os.close(-1)])
def test_what_it_refuses_of_no_file_or_a_missing_one_is_a_bug(here, act):
    with pytest.raises(OSError):
        exits(lambda argv: act())([])


def test_output_that_nobody_reads_ends_quietly(tmp_path):
    code = (
        'import sys; from mmlolvit.cli.common import exits\n'
        'sys.exit(exits(lambda argv: print(argv * 100000))(["x"]))'
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, '-c', code], stdout=write, stderr=subprocess.PIPE, text=True, env=ENV
    )
    os.close(write)
    assert (done.returncode, 'Error' in done.stderr) == (141, False), done.stderr


def test_interrupt_exits_with_130():
    @exits
    def main(argv):
        raise KeyboardInterrupt

    assert main([]) == 130


def test_plain_is_valid_json():
    value = dict(a=torch.tensor([1.0, float('nan')]), b=np.float32(0.5), c=(np.int64(3), 'x'))
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == dict(
        a=[1.0, None], b=0.5, c=[3, 'x']
    )


def test_detections_are_written_and_drawn():
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo=dict(img_path='a.png'))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[2.0, 3.0, 20.0, 30.5]]),
        labels=torch.tensor([1]),
        scores=torch.tensor([0.9]),
        masks=torch.ones(1, 40, 40, dtype=torch.bool),
    )
    fields = plain(TASKS['mmdet'].serialize(sample.to_dict()))
    assert json.loads(json.dumps(fields))['masks'][0]['size'] == [40, 40]
    assert (fields['boxes'], fields['labels'], fields['scores']) == ([[2, 3, 20, 30.5]], [1], [0.9])

    meta = dict(classes=('a', 'b'), palette=[(255, 0, 0), (0, 255, 0)])
    visualizer = TASKS['mmdet'].make_visualizer({}, meta)
    black = np.zeros((40, 40, 3), np.uint8)
    assert TASKS['mmdet'].draw(visualizer, black, sample, 0.3).any()
    assert not TASKS['mmdet'].draw(visualizer, black, sample, 0.95).any()


def test_segmentation_map_survives_its_png():
    classes = torch.randint(0, 300, (1, 5, 7))
    fields = TASKS['mmseg'].serialize(dict(pred_sem_seg=dict(data=classes)))
    png = np.frombuffer(base64.b64decode(fields['map_png']), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), classes[0].numpy())
