"""tools/benchmark.py, on tiny inputs: what it writes and how it takes failures, never times."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import cv2
import pytest
import torch

from mmlolvit.benchmark import models, runtimes, speed, worker
from mmlolvit.benchmark.data import main as time_data
from mmlolvit.benchmark.models import build
from mmlolvit.benchmark.published import PUBLISHED
from mmlolvit.benchmark.resolution import main as compare_sizes
from mmlolvit.benchmark.speed import main

from .helpers import exit_code

CONFIGS = Path(__file__).parents[1] / 'configs'
RESULT = {
    'seconds',
    'low',
    'high',
    'rounds',
    'ratio',
    'memory',
    'parameters',
    'macs',
    'activations',
    'layout',
}


@pytest.mark.slow
def test_writes_what_it_measured(tmp_path, capsys):
    classifier = str(CONFIGS / 'cls/lolvit_xx_digits.py')
    argv = ['mobilevit_xxs', 'lolvit_xx:score=softmax,window=7', classifier]
    argv += ['--sizes', '32', '32x64', '--batches', '2', '--rounds', '2', '--threads', '1']
    argv += ['--runtimes', 'eager', 'onnxruntime', '--modes', 'inference', 'training']
    assert main([*argv, '--out', str(tmp_path / 'a')]) == 0
    printed = capsys.readouterr()
    assert 'left out: onnxruntime, fp32, training' in printed.err
    report = json.loads((tmp_path / 'a.json').read_text())
    assert {'command', 'environment', 'base', 'missing', 'cells'} == set(report)
    assert report['environment']['threads'] == 1
    assert report['environment']['versions']['torch'] == torch.__version__.split('+')[0]
    kinds = [(cell['runtime'], cell['mode'], tuple(cell['size'])) for cell in report['cells']]
    sizes = [(32, 32), (32, 64)]
    assert kinds == [
        *(('eager', 'inference', size) for size in sizes),
        *(('eager', 'training', size) for size in sizes),
        *(('onnxruntime', 'inference', size) for size in sizes),
    ]
    for cell in report['cells']:
        assert not cell['failed'] and list(cell['results']) == argv[:3]
        assert cell['results']['mobilevit_xxs']['ratio'] == 1
        for result in cell['results'].values():
            assert set(result) == RESULT
            assert 0 < result['low'] <= result['seconds'] <= result['high']
            assert result['memory'] > 1e6 and result['macs'] > 1e6
        assert cell['title'] in printed.out
    text = (tmp_path / 'a.md').read_text()
    assert report['command'] in text and PUBLISHED['mobilevit_xxs'].source in text
    assert '| lolvit_xx_digits |' in text and str(CONFIGS) not in text.split('\n', 1)[1]
    picture = cv2.imread(str(tmp_path / 'a.png'))
    assert picture.shape[1] > picture.shape[0] > 400 and picture.std() > 5


@pytest.mark.slow
@pytest.mark.parametrize('config', ['det/retinanet_lolvit_x_digits', 'seg/fpn_lolvit_x_digits'])
def test_whole_models_answer_and_learn(config):
    path = str(CONFIGS / f'{config}.py')
    x = torch.randn(2, 3, 64, 96)
    assert all(len(answer) == 2 for answer in build(path).net(x))
    subject = build(path, training=True)
    loss = subject.loss(x)
    loss.backward()
    assert loss > 0 and all(p.grad is not None for p in subject.net.parameters())


def test_options_of_fwa_reach_it():
    net = build('lolvit_xx:score=softmax,window=(grid,7)').net
    block = net.backbone.stages[2][1]
    attention = block.fusion.branch.attention
    assert (attention.score, tuple(attention.window)) == ('softmax', ('grid', 7))


def test_a_rival_ends_at_its_last_map():
    counted = build('ghostnet_100').counted
    # Of its 5.2 M parameters, a convolution and the classifier come after the pooling.
    assert sum(p.numel() for p in counted.parameters()) < 3e6
    assert counted(torch.randn(1, 3, 64, 64)).shape == (1, 960, 2, 2)


def test_every_rival_has_a_source_and_is_known():
    assert all(figure.source and 60 < figure.top1 < 90 for figure in PUBLISHED.values())
    names, absent = speed.find([])
    assert set(names) | set(absent) == {*PUBLISHED, *speed.OURS}
    assert names[0] == 'mobilevit_xs' and set(speed.OURS) <= set(names)


def test_a_model_that_dies_is_reported_and_the_rest_goes_on(monkeypatch, tmp_path, capsys):
    ask = worker.Worker.ask

    def kill_when_it_runs(self, **request):
        if self.name == 'lolvit_s' and request['command'] == 'run':
            os.kill(self.process.pid, signal.SIGKILL)
        return ask(self, **request)

    monkeypatch.setattr(worker.Worker, 'ask', kill_when_it_runs)
    argv = ['lolvit_xx', 'lolvit_s', '--sizes', '32', '--batches', '1', '--rounds', '2']
    assert main([*argv, '--out', str(tmp_path / 'a')]) == 0
    (cell,) = json.loads((tmp_path / 'a.json').read_text())['cells']
    assert list(cell['results']) == ['lolvit_xx']
    assert cell['failed'] == {'lolvit_s': 'its process was killed by signal 9'}
    assert '| lolvit_s | failed: its process was killed' in capsys.readouterr().out


def test_a_model_that_cannot_take_the_input_is_reported(capsys):
    argv = ['shvit_s1', '--sizes', '1', '--batches', '1', '--rounds', '1', '--modes', 'training']
    assert main(argv) == 1
    assert 'no model could be measured' in capsys.readouterr().err


def test_mistakes_are_one_message(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    mask_rcnn = str(CONFIGS / 'det/mask-rcnn_lolvit_x_digits.py')
    for argv, message in (
        (['resnet_of_nobody'], "has no model 'resnet_of_nobody'"),
        (['mmpretrain:nothing'], "mmpretrain has no model 'nothing'"),
        (['lolvit_q'], "unknown arch of LOLViT 'q'"),
        (['lolvit_x:score=max'], 'score must be one of'),
        (['lolvit_x:speed=1'], "unexpected keyword argument 'speed'"),
        (['configs/none.py'], 'configs/none.py does not exist'),
        (['lolvit_x', '--device', 'cuda'], 'finds no GPU'),
        (['lolvit_x', '--runtimes', 'cudagraph'], 'nothing to measure'),
        (['lolvit_x', '--sizes', '0'], '--sizes expects'),
        (['lolvit_x', '--batches', '0'], '--batches expects'),
        (['lolvit_x', '--out', f'{__file__}/a'], 'cannot write to the folder'),
    ):
        code = exit_code(main, argv)
        assert (code, message in capsys.readouterr().err) == (2, True), message
    with pytest.raises(models.UserError, match='MaskRCNN is not exported'):
        build(mask_rcnn, training=True)


@pytest.mark.parametrize('name', ['onnx', 'openvino'])
def test_a_runtime_that_is_not_installed_is_named(monkeypatch, capsys, name):
    find_spec = runtimes.importlib.util.find_spec
    monkeypatch.setattr(
        runtimes.importlib.util,
        'find_spec',
        lambda module, *args: None if module == name else find_spec(module, *args),
    )
    assert main(['lolvit_x', '--runtimes', 'openvino']) == 2
    assert f'{name} is not installed: pip install' in capsys.readouterr().err


def test_no_compiler_is_named(monkeypatch, capsys):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    assert main(['lolvit_x', '--runtimes', 'compile']) == 2
    assert 'needs a C++ compiler' in capsys.readouterr().err


@pytest.mark.parametrize('faster', runtimes.LAYOUTS)
def test_a_training_step_runs_in_the_layout_that_is_told(monkeypatch, faster):
    seconds = iter([float(layout != faster) for layout in runtimes.LAYOUTS for _ in range(3)])
    monkeypatch.setattr(runtimes, 'timed', lambda run, device: next(seconds))
    subject = build('lolvit_xx', training=True)
    found = runtimes.eager(subject, torch.randn(2, 3, 64, 64), 'fp32', training=True)
    weight = next(p for p in subject.net.parameters() if p.dim() == 4 and p.shape[1] > 1)
    assert found.layout == faster
    assert weight.is_contiguous(memory_format=runtimes.LAYOUTS[faster])


@pytest.mark.slow
@pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and shutil.which('g++')),
    reason='torch.compile packs weights for oneDNN, by a C++ compiler',
)
def test_compiled_models_have_their_weights_packed():
    torch._dynamo.reset()
    run = runtimes.compiled(build('lolvit_xx', False), torch.randn(1, 3, 64, 64), 'fp32', False).run
    with torch.profiler.profile() as profile:
        run()
    assert 'mkldnn::_convolution_pointwise' in {event.key for event in profile.key_averages()}


def test_a_worker_says_why_its_process_ended(monkeypatch):
    monkeypatch.setattr(sys, 'executable', '/bin/false')
    with pytest.raises(worker.Died, match='exit code 1'):
        worker.Worker('lolvit_xx', 1).ask(command='load')


@pytest.mark.slow
def test_times_the_loading_of_training_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digits = str(CONFIGS / 'cls/lolvit_xx_digits.py')
    assert time_data([digits, '--workers', '0', '1', '--batches', '2']) == 0
    rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [row[0] for row in rows] == ['| 0', '| 1'] and all(int(row[1]) > 0 for row in rows)
    assert time_data([str(CONFIGS / 'cls/lolvit_xx_in1k.py')]) == 2
    assert 'data/imagenet/train does not exist' in capsys.readouterr().err


@pytest.mark.slow
def test_one_large_image_beside_a_batch(tmp_path, capsys):
    argv = ['lolvit_xx', '--side', '512', '--rounds', '1', '--threads', '1']
    assert compare_sizes([*argv, '--out', str(tmp_path / 'a')]) == 0
    small, large = json.loads((tmp_path / 'a.json').read_text())['cells']
    assert (small['batch'], small['size']) == (4, [256, 256])
    assert (large['batch'], large['size']) == (1, [512, 512])
    row = capsys.readouterr().out.splitlines()[2].split(' | ')
    a, b = (cell['results']['lolvit_xx'] for cell in (small, large))
    assert float(row[4]) == pytest.approx(b['seconds'] / a['seconds'], abs=0.01)
    assert float(row[7].strip('| ')) == pytest.approx(b['memory'] / a['memory'], abs=0.01)
    with pytest.raises(SystemExit):
        compare_sizes(['lolvit_xx', '--side', '300'])
