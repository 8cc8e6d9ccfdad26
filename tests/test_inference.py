"""mmlolvit.load, tools/infer.py, and configs by name, with random weights on the embedded sets."""

import base64
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from pycocotools.coco import COCO

import mmlolvit
from mmlolvit.cli.answers import find_ids
from mmlolvit.cli.infer import find_files
from mmlolvit.cli.infer import main as infer
from mmlolvit.cli.main import COMMANDS
from mmlolvit.cli.main import main as command
from mmlolvit.cli.test import main as run_test
from mmlolvit.drawing import enlarge
from mmlolvit.errors import UserError
from mmlolvit.inference import Predictor
from mmlolvit.tasks import TASKS
from mmlolvit.zoo import CONFIGS, find_config, read_config

from .helpers import exit_code, inside, threads

ROOT = Path(__file__).parents[1]
NAMES = dict(cls='lolvit_x_digits', det='retinanet_lolvit_x_digits', seg='fpn_lolvit_x_digits')
FEW = ['--cfg-options', 'test_dataloader.dataset.indices=6', 'test_dataloader.num_workers=0']
SCENES = Path('data/scenes/images/10k/val')


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with weights of each task and what tools/test.py predicts by them."""
    with inside(tmp_path_factory.mktemp('inference')) as folder, threads(1):
        for task, name in NAMES.items():
            cfg = read_config(name)
            init_default_scope(cfg.default_scope)
            torch.manual_seed(0)
            model = MODELS.build(cfg.model)
            model.init_weights()
            if task == 'det':  # untrained scores are all near 0.01
                torch.nn.init.normal_(model.bbox_head.retina_cls.weight, std=0.5)
            torch.save(dict(state_dict=model.state_dict()), f'{task}.pth')
            assert run_test([find_config(name), f'{task}.pth', '--out', f'{task}.json', *FEW]) == 0
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize('task', NAMES)
def test_answers_are_those_of_the_test(workspace, task):
    predictor = mmlolvit.load(NAMES[task], f'{task}.pth')
    predicted = json.loads(Path(f'{task}.json').read_text())['predictions']
    files = [image['image'] for image in predicted]
    assert len(files) == 6
    arrays = [cv2.imread(file) for file in files]
    for answers in (predictor(files), predictor(arrays, batch_size=4), map(predictor, files)):
        for answer, want in zip(answers, predicted, strict=True):
            if task == 'cls':
                assert answer['label'] == want['pred_label']
                assert answer['name'] == str(want['pred_label'])
                assert answer['score'] == pytest.approx(want['pred_score'], abs=1e-4)
                assert answer['scores'].sum() == pytest.approx(1, abs=1e-4)
            elif task == 'det':
                assert len(want['boxes'])
                np.testing.assert_allclose(
                    np.sort(want['scores'])[::-1], answer['scores'], atol=1e-4
                )
                found = np.concatenate((answer['boxes'], answer['labels'][:, None]), axis=1)
                boxes = np.concatenate((want['boxes'], np.array(want['labels'])[:, None]), axis=1)
                np.testing.assert_allclose(
                    found[np.lexsort(found.T)], boxes[np.lexsort(boxes.T)], atol=0.05
                )
            else:
                png = np.frombuffer(base64.b64decode(want['map_png']), np.uint8)
                expected = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
                assert answer['map'].shape == expected.shape == (160, 160)
                assert (answer['map'] != expected).mean() < 1e-3


@pytest.mark.slow
def test_an_answer_hangs_on_no_other_image(workspace):
    predictor = mmlolvit.load(NAMES['cls'], 'cls.pth')
    small, large = (
        cv2.resize(cv2.imread(f), (n, n)) for f, n in zip(some_digits(), (40, 90), strict=True)
    )
    together = predictor([small, large, small])
    for answer, image in zip(together, (small, large, small), strict=True):
        np.testing.assert_allclose(answer['scores'], predictor(image)['scores'], atol=1e-5)


def some_digits() -> list[str]:
    return sorted(map(str, Path('data/digits/val').rglob('*.png')))[:2]


def read_lines(folder: str) -> list[dict]:
    return [json.loads(line) for line in Path(folder, 'predictions.jsonl').read_text().splitlines()]


def run(argv: list[str], capsys) -> tuple[int, str]:
    code = infer(argv)
    return code, capsys.readouterr().err


@pytest.mark.slow
def test_files_that_cannot_be_read_do_not_end_the_rest(workspace, capsys):
    digits = some_digits()
    Path('mixed/deep').mkdir(parents=True)
    Path('mixed/text.png').write_text('no image')
    Path('mixed/deep/same.png').write_bytes(Path(digits[0]).read_bytes())
    Path('mixed/same.jpg').write_bytes(Path(digits[1]).read_bytes())
    Path('mixed/notes.txt').write_text('not asked for')
    Path('mixed/loop.png').symlink_to('loop.png')
    os.mkfifo('mixed/pipe.mp4')  # to open it would wait for a writer
    Path('mixed/folder.png').mkdir()
    twice = [digits[0], f'mixed/../{digits[0]}']
    argv = [NAMES['cls'], 'cls.pth', 'mixed', 'none/*.png', *twice, '--out', 'mixed_out']
    code, err = run(argv, capsys)
    assert code == 1
    assert 'error: none/*.png cannot be read: No such file or directory' in err
    assert 'error: mixed/loop.png cannot be read: Too many levels of symbolic links' in err
    assert 'error: mixed/pipe.mp4 cannot be read: it is no file' in err
    assert 'mixed/text.png cannot be read as an image' in err and 'notes' not in err
    assert 'folder' not in err
    lines = read_lines('mixed_out')
    assert [line['image'] for line in lines] == ['mixed/deep/same.png', 'mixed/same.jpg', twice[1]]
    predictor = mmlolvit.load(NAMES['cls'], 'cls.pth')
    for line in lines:
        assert line['name'] == predictor(line['image'])['name']
    pictures = {path.name for path in Path('mixed_out/pictures').iterdir()}
    assert pictures == {'same.png', 'same_2.png', Path(digits[0]).name}
    assert all(cv2.imread(f'mixed_out/pictures/{name}').std() > 5 for name in pictures)


@pytest.mark.slow
def test_a_video_becomes_one(workspace, capsys):
    frames = [cv2.imread(str(path)) for path in sorted(SCENES.iterdir())[:5]]
    video = cv2.VideoWriter('clip.mp4', cv2.VideoWriter_fourcc(*'mp4v'), 10, (160, 160))
    for frame in frames:
        video.write(frame)
    video.release()
    argv = [NAMES['seg'], 'seg.pth', 'clip.mp4', '--out', 'clip_out', '--batch-size', '2']
    assert run([*argv, '--write', 'pictures', 'jsonl', 'masks'], capsys)[0] == 0
    lines = read_lines('clip_out')
    assert [line['frame'] for line in lines] == list(range(5))
    drawn = cv2.VideoCapture('clip_out/pictures/clip.mp4')
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (5, 10)
    masks = sorted(path.name for path in Path('clip_out/masks/clip').iterdir())
    assert masks == [f'{i:06d}.png' for i in range(5)]
    assert run([NAMES['seg'], 'seg.pth', 'mixed/text.mp4'], capsys)[0] == 2

    cut = cv2.VideoWriter('cut.avi', cv2.VideoWriter_fourcc(*'MJPG'), 66.667, (160, 160))
    for frame in frames:
        cut.write(frame)
    cut.release()
    content = Path('cut.avi').read_bytes()
    Path('cut.avi').write_bytes(content[: len(content) // 2])
    code, err = run([NAMES['seg'], 'seg.pth', 'cut.avi', '--out', 'cut_out'], capsys)
    number = len(read_lines('cut_out'))
    assert code == 1 and f'error: cut.avi ends after {number} of 5 frames' in err
    drawn = cv2.VideoCapture('cut_out/pictures/cut.mp4')
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (number, 66.67)


@pytest.mark.slow
def test_results_of_coco_and_masks_of_bdd100k(workspace, capsys):
    argv = [NAMES['det'], 'det.pth', str(SCENES), '--write', 'coco', 'jsonl', '--out', 'det_out']
    assert run(argv, capsys)[0] == 0
    for line in read_lines('det_out'):
        assert line['names'] == [str(label) for label in line['labels']] != []
    truth = COCO('data/scenes/annotations/val.json')
    results = json.loads(Path('det_out/results.json').read_text())
    truth.loadRes(results)  # ids that COCO knows
    want = json.loads(Path('det.json').read_text())['predictions'][3]
    image = next(i for i in truth.imgs.values() if i['file_name'] == Path(want['image']).name)
    found = [result for result in results if result['image_id'] == image['id']]
    assert len(found) == len(want['boxes'])
    x1, y1, x2, y2 = want['boxes'][int(np.argmax(want['scores']))]
    best = max(found, key=lambda result: result['score'])
    assert best['bbox'] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=0.05)

    part = ['--write', 'jsonl', 'coco', '--out', 'part_out']  # known before the first answer
    Path('zebra.png').write_bytes(next(SCENES.iterdir()).read_bytes())
    assert run([NAMES['det'], 'det.pth', str(SCENES), 'zebra.png', *part], capsys)[0] == 2
    assert not Path('part_out/predictions.jsonl').read_text()

    images = [str(path) for path in sorted(SCENES.iterdir())[:2]]
    argv = [NAMES['seg'], 'seg.pth', *images, '--write', 'masks', '--out', 'seg_out']
    assert run(argv, capsys)[0] == 0
    answers = mmlolvit.load(NAMES['seg'], 'seg.pth')(images)
    for path, answer in zip(images, answers, strict=True):
        mask = cv2.imread(f'seg_out/masks/{Path(path).name}', cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, answer['map'])


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.6', reason='export needs torch 2.6 or newer')
def test_an_exported_model_answers_too(workspace):
    argv = [NAMES['cls'], 'cls.pth', '--out', 'cls.onnx', '--dynamic', 'batch', 'size']
    assert command(['export', *argv]) == 0
    files = some_digits()
    ours, exported = (mmlolvit.load(NAMES['cls'], f'cls.{kind}')(files) for kind in ('pth', 'onnx'))
    for a, b in zip(ours, exported, strict=True):
        assert (a['label'], a['name']) == (b['label'], b['name'])
        np.testing.assert_allclose(a['scores'], b['scores'], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['lolvit_x_digit', 'cls.pth', 'data'], 'does not exist; did you mean lolvit_x_digits'),
        ([NAMES['cls'], 'none.pth', 'data'], 'checkpoint none.pth does not exist'),
        ([NAMES['cls'], 'seg.pth', 'data'], 'is of another architecture'),
        ([NAMES['cls'], 'cls.pth', 'nowhere'], 'nowhere cannot be read: No such file'),
        ([NAMES['cls'], 'cls.pth', 5000 * 'n'], 'n cannot be read: File name too long'),
        ([NAMES['cls'], 'cls.pth', ''], "expects a file, a folder or a pattern, got ''"),
        ([NAMES['cls'], 'cls.pth', 'data', '--out', 'taken'], 'taken/pictures: File exists'),
        (
            [NAMES['cls'], 'cls.pth', 'data', '--out', 'taken', '--write', 'jsonl'],
            'taken/predictions.jsonl cannot be read or written: Is a directory',
        ),
        (
            [NAMES['det'], 'det.pth', str(SCENES), '--out', 'taken', '--write', 'coco'],
            'taken/results.json is a folder',
        ),
        (
            [NAMES['seg'], 'seg.pth', 'data', '--out', 'taken', '--write', 'masks'],
            'taken/masks: File exists',
        ),
        ([NAMES['cls'], 'cls.pth', 'data', '--write', 'masks'], '--write masks is for a config of'),
        (
            [NAMES['det'], 'det.pth', 'data', '--write', 'coco', '--ann-file', 'x'],
            'x does not exist',
        ),
        ([NAMES['cls'], 'cls.pth', 'data', '--batch-size', '0'], '--batch-size expects at least 1'),
        ([NAMES['cls'], 'cls.pth', 'data', '--device', 'cuda'], 'no such GPU'),
        (
            [NAMES['cls'], 'cls.pth', 'data', '--device', 'gpu'],
            'must be cpu or cuda, with a number',
        ),
        ([str(CONFIGS / 'cls'), 'cls.pth', 'data'], 'is a folder, expected a file or a name'),
        ([NAMES['cls'], 'cls.pth', 'hollow'], 'hollow holds no images'),
        (
            [NAMES['cls'], 'cls.pth', 'data', '--out', 'cls.pth'],
            'cannot write to the folder',
        ),
    ],
)
def test_mistakes_are_one_message(workspace, capsys, argv, message):
    Path('hollow').mkdir(exist_ok=True)
    for folder in ('predictions.jsonl', 'results.json'):
        Path('taken', folder).mkdir(parents=True, exist_ok=True)
    for file in ('pictures', 'masks'):
        Path('taken', file).touch()
    if 'cuda' in argv and torch.cuda.is_available():
        pytest.skip('there is a GPU')
    code = exit_code(infer, argv)
    assert (code, message in capsys.readouterr().err) == (2, True)


def test_an_image_of_coco_is_found_by_the_end_of_its_path():
    known = {Path('cam1/0001.jpg'): 1, Path('cam2/0001.jpg'): 2, Path('b.jpg'): 3}
    files = [Path('/data/cam1/0001.jpg'), Path('/data/cam2/0001.jpg'), Path('elsewhere/b.jpg')]
    assert [*find_ids(files, known).values()] == [1, 2, 3]
    with pytest.raises(UserError, match=r'0001.jpg may be cam1/0001.jpg or cam2/0001.jpg of the'):
        find_ids([Path('0001.jpg')], known)
    with pytest.raises(UserError, match=r'c.jpg is not in the annotation file'):
        find_ids([Path('c.jpg')], known)


def test_what_was_written_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a.png', 'out/b.png', 'out/pictures/a.png', 'out/masks/clip/0.png'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    out = Path('out')
    assert [*map(str, find_files(['.'], out, []))] == ['a.png', 'out/b.png']
    assert [*map(str, find_files(['**/a.png'], out, []))] == ['a.png']
    for given in ('out/pictures', 'out/masks/clip/0.png', 'out/pictures/*'):
        with pytest.raises(UserError, match='is where answers are written'):
            list(find_files([given], out, []))


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / 'closed').mkdir()
    (tmp_path / 'a.png').touch()
    scandir = os.scandir

    def refuse(path):  # as of a folder without the right to read, which root always has
        if str(path).endswith('closed'):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    unread = []
    assert [*find_files([str(tmp_path)], tmp_path / 'out', unread)] == [tmp_path / 'a.png']
    assert [*find_files([str(tmp_path / 'closed')], tmp_path / 'out', unread)] == []
    assert unread == [f'folder {tmp_path}/closed cannot be read: Permission denied'] * 2


def test_a_long_thin_image_takes_little_memory():
    """Its shorter side does not become what a picture, or the model, has of others."""
    thin = np.zeros((1, 65000, 3), np.uint8)
    assert enlarge(thin).shape == (1, 65000, 3) and enlarge(thin[:, :9]).shape == (142, 1278, 3)
    cfg = read_config('lolvit_x_in1k')
    init_default_scope(cfg.default_scope)
    predictor = Predictor(cfg, TASKS['mmpretrain'], torch.nn.Identity(), dict(classes=()))
    assert predictor.read(thin[:, :300])['prepared']['inputs'].shape == (3, 256, 256)
    with pytest.raises(
        UserError, match=r'65000 x 1 px cannot be prepared .* by ResizeEdge: it wou'
    ):
        predictor.read(thin)


@pytest.mark.slow
def test_arrays_of_another_form_are_refused(workspace):
    predictor = mmlolvit.load(NAMES['cls'], 'cls.pth')
    with pytest.raises(UserError, match='batch_size must be at least 1, got 0'):
        predictor(some_digits(), batch_size=0)
    for image in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(UserError, match='an image is an array'):
            predictor(image)


def test_names_are_those_of_the_configs():
    names = mmlolvit.list_models()
    assert set(names) == {path.stem for path in (ROOT / 'configs').glob('[!_]*/*.py')}
    assert len(names) == len(set(names)), 'two configs of one name'
    assert Config.fromfile(find_config('fpn_lolvit_x_digits')).default_scope == 'mmseg'


def test_a_config_elsewhere_inherits_by_package_path(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = 'mmlolvit::seg/fpn_lolvit_x_digits.py'\n"
        'test_pipeline = _base_.test_pipeline\n'
        'model = dict(backbone=dict(arch="xx"), neck=dict(in_channels=[24, 64, 192, 352]))\n'
        'decode_head = _base_.model.decode_head\n'
    )
    cfg = read_config(str(path))
    assert (cfg.model.backbone.type, cfg.model.backbone.arch) == ('mmlolvit.LOLViT', 'xx')
    assert '_scope_' not in str(cfg)
    init_default_scope(cfg.default_scope)
    MODELS.build(cfg.model)
    MODELS.build(cfg.decode_head)


def test_every_config_is_in_the_model_index_once():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    files = [yaml.safe_load((ROOT / path).read_text()) for path in index['Import']]
    models = [model for file in files for model in file['Models']]
    assert all(Path(model['Config']).stem == model['Name'] for model in models)
    listed = sorted(model['Config'] for model in models)
    assert listed == sorted(
        f'configs/{path.parent.name}/{path.name}'
        for path in CONFIGS.glob('[!_]*/*.py')
        if path.parent.name != 'ablation'
    )


def test_one_command_has_every_tool(capsys):
    assert command(['--version']) == 0 and mmlolvit.__version__ in capsys.readouterr().out
    assert command(['tarin']) == 2 and "no command 'tarin'" in capsys.readouterr().err
    tools = {path.stem for path in (ROOT / 'tools').glob('*.py')} - {'export_onnx'}
    assert tools | {'export', 'doctor'} == set(COMMANDS)


@pytest.mark.slow
def test_the_command_works_from_any_folder(tmp_path):
    command = [str(Path(sys.executable).with_name('mmlolvit')), 'get_flops', '--help']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith('usage: mmlolvit get_flops')
