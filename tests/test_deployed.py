"""python -m mmlolvit.benchmark.deployed."""

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmlolvit.benchmark.deployed import FILES, PYTORCH, find_metric, main, read
from mmlolvit.deploy.graphs import GRAPHS

from .helpers import exit_code, inside, threads

CONFIGS = Path(__file__).parents[1] / 'configs'
DIGITS = str(CONFIGS / 'cls/lolvit_xx_digits.py')
MASK_RCNN = str(CONFIGS / 'det/mask-rcnn_lolvit_x_digits.py')
FEW = ['--cfg-options', 'test_dataloader.dataset.indices=12']


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder to work in, where the tools build the embedded sets."""
    with inside(tmp_path_factory.mktemp('deployed')) as folder, threads(torch.get_num_threads()):
        yield folder


def save_random(config: str) -> str:
    path = Path(config).with_suffix('.pth').name
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), path)
    return path


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.6', reason='export needs torch 2.6 or newer')
def test_every_form_is_tested_measured_and_written(workspace, capsys):
    argv = [DIGITS, save_random(DIGITS), '--rounds', '3', '--out', 'found/table', *FEW]
    capsys.readouterr()
    assert main(argv) == 0
    printed = capsys.readouterr()
    assert 'lolvit_xx_digits: test ONNX int8' in printed.err
    lines = printed.out.splitlines()
    assert len(lines) == 2 + 1 + len(FILES) and all(line[0] + line[-1] == '||' for line in lines)
    assert re.search(r'\| lolvit_xx_digits \| ONNX fp16 \| accuracy/top1 \S+ \| 0 of 12 ', lines[4])

    report = json.loads(Path('found/table.json').read_text())
    assert report['command'].startswith('python -m mmlolvit.benchmark.deployed ')
    assert report['environment']['threads'] == 2 and report['environment']['versions']['torch']
    (model,) = report['models']
    forms = {form['name']: form for form in model['forms']}
    assert list(forms) == [PYTORCH, *FILES]
    assert all(len(form['seconds']) == 3 and min(form['seconds']) > 0 for form in forms.values())
    assert [form['changed'] for form in forms.values()][:3] == [0, 0, 0]
    assert len({form['value'] for form in list(forms.values())[:3]}) == 1
    size = {name: form['bytes'] for name, form in forms.items()}
    assert size['ONNX int8'] < size['ONNX fp16'] < 0.6 * size['ONNX float32']
    text = Path('found/table.md').read_text()
    assert report['command'] in text and printed.out.strip() in text


@pytest.mark.parametrize(
    'save_best, metric', [('mIoU', 'mIoU'), ('auto', 'aAcc'), (None, 'aAcc'), ('else', 'aAcc')]
)
def test_the_metric_is_the_one_that_the_config_trains_for(save_best, metric):
    cfg = Config(dict(default_hooks=dict(checkpoint=dict(save_best=save_best))))
    assert find_metric(cfg, dict(aAcc=90.0, mIoU=70.0)) == metric
    assert find_metric(Config(), dict(aAcc=90.0, mIoU=70.0)) == 'aAcc'


def test_changed_predictions_are_counted_over_images_of_any_size():
    def found(scope, *images):
        return read(scope, dict(predictions=images))

    def seen(*maps):
        pngs = [cv2.imencode('.png', np.uint16(classes))[1] for classes in maps]
        return [dict(map_png=base64.b64encode(png).decode()) for png in pngs]

    def changed(scope, a, b):
        return GRAPHS[scope].changed(found(scope, *a), found(scope, *b))

    labels = [[dict(pred_label=label) for label in found] for found in ([1, 2, 3], [1, 0, 9])]
    assert changed('mmpretrain', *labels) == (2, 3)
    maps = seen([[0, 1], [2, 300]], [[4]]), seen([[0, 1], [2, 0]], [[4]])
    assert changed('mmseg', *maps) == (1, 5)
    boxes = dict(boxes=[[0, 0, 9, 9], [3, 3, 8, 9]], scores=[0.9, 0.4], labels=[1, 2])
    nothing = dict(boxes=[], scores=[], labels=[])
    assert changed('mmdet', [boxes, nothing], [boxes, nothing]) == (0, 4)
    assert changed('mmdet', [boxes, nothing], [nothing, boxes]) == (4, 4)


@pytest.mark.skipif(torch.__version__ < '2.6', reason='export needs torch 2.6 or newer')
def test_mistakes_are_one_message(workspace, capsys):
    one, other = save_random(DIGITS), save_random(MASK_RCNN)
    Path('file').write_text('')
    for argv, message in (
        ([DIGITS], 'expected pairs of CONFIG and CKPT'),
        ([DIGITS, one, '--rounds', '0'], '--rounds expects at least 1'),
        ([DIGITS, one, 'none.py', one], 'config none.py does not exist'),
        ([DIGITS, one, DIGITS, 'none.pth'], 'checkpoint none.pth does not exist'),
        ([DIGITS, one, DIGITS, other], 'is of another architecture'),
        ([DIGITS, one, MASK_RCNN, other], 'MaskRCNN is not exported'),
        ([DIGITS, one, '--cfg-options', 'nothing'], 'expects KEY=VALUE'),
        ([DIGITS, one, '--out', 'file/table'], 'cannot write to the folder file'),
    ):
        code = exit_code(main, argv)
        errors = [line for line in capsys.readouterr().err.splitlines() if 'error: ' in line]
        assert (code, len(errors)) == (2, 1) and message in errors[0], errors
