"""tools/analyze_results.py, on what tools/test.py writes of models that know little."""

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmlolvit.analysis.charts import draw_classes, draw_confusion
from mmlolvit.analysis.results import BoxResults, MapResults, match
from mmlolvit.cli.analyze_results import main
from mmlolvit.cli.check_dataset import main as check_dataset
from mmlolvit.cli.test import main as run_test
from mmlolvit.errors import UserError
from mmlolvit.zoo import read_config

from .helpers import exit_code, inside, threads

CONFIGS = Path(__file__).parents[1] / 'configs'
NAMES = dict(
    cls='cls/lolvit_xx_digits',
    det='det/retinanet_lolvit_x_digits',
    mask='det/mask-rcnn_lolvit_x_digits',
    seg='seg/fpn_lolvit_x_digits',
)
FEW = ['--cfg-options', 'test_dataloader.dataset.indices=12']
MNIST = """
_base_ = 'mmlolvit::cls/lolvit_xx_digits.py'
test_dataloader = dict(num_workers=0, dataset=dict(
    _delete_=True, type='mmpretrain.MNIST', data_root='.', split='test', download=False,
    pipeline=[dict(type='mmpretrain.Resize', scale=64), dict(type='mmpretrain.PackInputs')],
))
val_dataloader = test_dataloader
train_dataloader = dict(dataset=test_dataloader['dataset'] | dict(split='train'))
model = dict(
    data_preprocessor=dict(mean=[0.0], std=[255.0], to_rgb=False), backbone=dict(in_channels=1)
)
"""


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder to work in, where the tools build the embedded sets."""
    with inside(tmp_path_factory.mktemp('analyze')) as folder, threads(1):
        yield folder


def config(task):
    return str(CONFIGS / f'{NAMES[task]}.py')


def predict(task):
    """The file of tools/test.py --out, of random weights."""
    out = Path(f'{task}.json')
    if not out.exists():
        cfg = Config.fromfile(config(task))
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), f'{task}.pth')
        assert run_test([config(task), f'{task}.pth', '--out', str(out), *FEW]) == 0
    return str(out)


def analyze(task, out, *options):
    assert main([config(task), predict(task), '--out', out, *options, *FEW]) == 0
    return json.loads(Path(out, 'report.json').read_text())


@pytest.mark.slow
@pytest.mark.parametrize('task', NAMES)
def test_totals_are_those_of_the_test(task, workspace, capsys):
    report = analyze(task, f'{task}_out', '--worst', '3')
    tested = json.loads(Path(f'{task}.json').read_text())['metrics']
    assert tested and all(report['totals'][key] == pytest.approx(tested[key]) for key in tested)
    assert 'warning: ' not in capsys.readouterr().err
    text = Path(f'{task}_out', 'report.md').read_text()
    for picture in ('confusion.png', 'classes.png', *(e['picture'] for e in report['worst'])):
        assert f'({picture})' in text
        assert cv2.imread(f'{task}_out/{picture}').std() > 0
    assert len(report['worst']) == 3
    scores = [entry['score'] for entry in report['worst']]
    assert scores == sorted(scores)
    number = len(report['classes'])
    assert all(len(values) == number for values in report['columns'].values())


@pytest.mark.slow
def test_classes_are_counted_as_scikit_learn_counts(workspace):
    from sklearn.metrics import classification_report

    report = analyze('cls', 'counted')
    found = json.loads(Path('cls.json').read_text())['predictions']
    truth, labels = ([image[key] for image in found] for key in ('gt_label', 'pred_label'))
    assert np.sum(report['confusion']) == 12 and len(report['worst']) == 12
    assert np.trace(report['confusion']) == np.sum(np.equal(truth, labels))
    expected = classification_report(truth, labels, output_dict=True, zero_division=0)
    for label in set(truth):
        row = expected[str(label)]
        assert report['columns']['images'][label] == row['support']
        assert report['columns']['recall'][label] == pytest.approx(100 * row['recall'], abs=1e-4)
        assert report['columns']['F1'][label] == pytest.approx(100 * row['f1-score'], abs=1e-4)
    wrong = sum(' for ' in entry['wrong'] for entry in report['worst'])
    assert wrong == np.sum(np.not_equal(truth, labels))


@pytest.mark.slow
def test_the_truth_as_a_prediction_has_no_faults(workspace):
    """The boxes of COCO's file, and as many more as one image and one class may have wrong."""
    predict('det')
    truth = json.loads(Path('data/scenes/annotations/val.json').read_text())
    content = json.loads(Path('det.json').read_text())
    for image, info in zip(content['predictions'], truth['images'], strict=False):
        own = [box for box in truth['annotations'] if box['image_id'] == info['id']]
        image['boxes'] = [[x, y, x + w, y + h] for x, y, w, h in (box['bbox'] for box in own)]
        image['labels'] = [box['category_id'] - truth['categories'][0]['id'] for box in own]
        image['scores'] = [0.9] * len(own)
    worst = content['predictions'][7]
    worst['labels'] = [(label + 1) % 10 for label in worst['labels']]
    Path('perfect.json').write_text(json.dumps(content))
    argv = [config('det'), 'perfect.json', '--out', 'perfect', '--worst', '2', *FEW]
    assert main(argv) == 0
    report = json.loads(Path('perfect/report.json').read_text())
    matrix = np.array(report['confusion'])
    number = len(worst['labels'])
    assert np.trace(matrix) == matrix.sum() - number
    assert not matrix[-1].any() and not matrix[:, -1].any()
    assert report['worst'][0]['number'] == 7 and report['worst'][1]['score'] == 1
    assert report['worst'][0]['wrong'] == f'{number} of another class; {number} boxes'
    assert Path('perfect/worst').joinpath(Path(report['worst'][0]['picture']).name).exists()


@pytest.mark.slow
def test_measures_that_are_no_number_or_not_there(workspace, capsys):
    """A confusion matrix of tools/test.py, and boxes that were not judged."""
    content = json.loads(Path(predict('cls')).read_text())
    content['metrics']['confusion_matrix/result'] = [[1, 0], [0, 1]]
    Path('matrix.json').write_text(json.dumps(content))
    assert main([config('cls'), 'matrix.json', '--out', 'matrix', *FEW]) == 0
    assert '| confusion_matrix/result | - ' in capsys.readouterr().out
    analyze('mask', 'segm', *FEW, 'test_evaluator.metric=segm')
    assert Path('segm/report.md').is_file()


@pytest.mark.slow
def test_pictures_of_an_earlier_call_are_gone(workspace):
    analyze('cls', 'twice', '--worst', '5')
    analyze('cls', 'twice', '--worst', '1')
    assert len(list(Path('twice/worst').iterdir())) == 1


def boxes(*rows):
    return np.array(rows, float).reshape(-1, 4)


def test_each_box_of_the_truth_is_found_once():
    """A digit found twice and one missed; another named wrong; a crowd that hides anything."""
    truth = boxes([0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 20, 60, 60])
    ignored = np.array([False, False, False, True])
    found = boxes([0, 0, 10, 9], [0, 0, 9, 10], [20, 0, 30, 10], [5, 25, 15, 35])
    pairs = match(found, np.array([1, 1, 7, 1]), truth, np.array([1, 2, 3, 1]), ignored, 10)
    assert sorted(map(tuple, pairs.tolist())) == [(1, 1), (2, 7), (3, 10), (10, 1)]


def test_a_box_of_its_own_class_is_found_first():
    truth = boxes([0, 0, 10, 10], [0, 0, 10, 12])
    args = truth, np.array([4, 5]), np.zeros(2, bool), 10
    assert match(boxes([0, 0, 10, 10]), np.array([5]), *args).tolist() == [[5, 5], [4, 10]]
    assert match(boxes(), np.zeros(0, int), *args).tolist() == [[4, 10], [5, 10]]


def test_an_image_without_boxes_is_no_failure():
    results = object.__new__(BoxResults)
    results.classes = ('a', 'b')
    assert results.f1(np.zeros((0, 2), int)) == 1
    assert results.f1(np.array([[0, 0], [2, 1]])) == pytest.approx(2 / 3)
    assert results.f1(np.array([[0, 2]] * 3)) < results.f1(np.array([[0, 2]])) < 0


def test_ignored_pixels_are_not_counted():
    results = object.__new__(MapResults)
    results.classes, results.ignored = ('a', 'b'), 255
    matrix = results.count(np.array([[0, 1], [1, 255]]), np.array([[0, 0], [1, 1]]))
    assert matrix.tolist() == [[1, 0], [1, 1]]


def test_predictions_of_no_class_are_refused():
    results = object.__new__(MapResults)
    results.classes, results.ignored = ('a', 'b'), 255
    assert results.count(np.array([[255, 1]]), np.array([[2, 1]])).sum() == 1
    with pytest.raises(UserError, match='predicts class 2, and the test set has classes 0 to 1'):
        results.count(np.array([[0, 1]]), np.array([[2, 1]]))


@pytest.mark.parametrize('number', [1, 30, 300])
def test_any_number_of_classes_is_drawn(number):
    names = [f'a class of name {i}' for i in range(number)]
    values = np.linspace(0, 1, number)
    values[-1] = np.nan
    matrix = np.diag(np.arange(number))
    columns = dict(IoU=values, Acc=values)
    for content in (draw_confusion(matrix, names), draw_classes(names, columns, 'IoU')):
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert max(picture.shape) < 2200 and picture.std() > 1


@pytest.mark.slow
def test_mistakes_are_one_message(workspace, capsys):
    good = predict('cls')
    content = json.loads(Path(good).read_text())
    content['predictions'].reverse()
    Path('turned.json').write_text(json.dumps(content))
    content['predictions'][0]['top_scores'][0] = None  # as NaN is written
    Path('nan.json').write_text(json.dumps(content))
    content['predictions'][0].update(top_labels=None, top_scores=[])
    Path('damaged.json').write_text(json.dumps(content))
    Path('text.json').write_text('no JSON')
    Path('other.json').write_text('[]')
    predict('det')
    capsys.readouterr()
    for argv, message in (
        ([config('cls'), 'gone.json'], 'gone.json does not exist; write it with: python tools'),
        ([config('cls'), 'cls.pth'], 'cls.pth is not JSON; write it with: python tools'),
        ([config('cls'), 'text.json'], 'text.json is not JSON'),
        ([config('cls'), 'other.json'], 'other.json holds no metrics and predictions'),
        ([config('seg'), good], 'number 0 of its predictions lacks map_png'),
        ([config('cls'), 'turned.json', *FEW], 'number 0 of turned.json is '),
        ([config('cls'), 'nan.json', *FEW], 'number 0 of its predictions has scores of NaN'),
        ([config('cls'), 'damaged.json', *FEW], 'is damaged: expected as top_labels labels'),
        ([config('mask'), 'det.json', *FEW], 'has no masks, and the test_evaluator measures'),
        ([config('cls'), good], 'has 12 predictions, the test set'),
        ([config('cls'), good, '--worst', '-1'], '--worst expects 0 or more'),
        ([config('cls'), good, '--out', 'text.json', *FEW], 'cannot write to the folder'),
    ):
        code = exit_code(main, argv)
        errors = [line for line in capsys.readouterr().err.splitlines() if 'error: ' in line]
        assert (code, len(errors)) == (2, 1) and message in errors[0], (argv, errors)


@pytest.mark.slow
def test_grey_images_of_one_file_are_drawn(tmp_path, monkeypatch, capsys):
    """As MNIST's, which have no names."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(255, size=(6, 28, 28), dtype=np.uint8)
    for split in ('train', 't10k'):
        head = struct.pack('>IIII', 2051, *images.shape)
        Path(f'{split}-images-idx3-ubyte').write_bytes(head + images.tobytes())
        Path(f'{split}-labels-idx1-ubyte').write_bytes(
            struct.pack('>II', 2049, 6) + bytes(range(6))
        )
    Path('mnist.py').write_text(MNIST)
    cfg = read_config('mnist.py')
    init_default_scope(cfg.default_scope)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), 'mnist.pth')
    assert check_dataset(['mnist.py']) == 0 and 'no errors' in capsys.readouterr().out
    argv = ['mnist.py', 'mnist.pth', '--out', 'mnist.json', '--show-dir', 'shown']
    assert run_test(argv) == 0
    assert main(['mnist.py', 'mnist.json', '--out', 'found']) == 0
    for folder in ('shown', 'found/worst'):
        pictures = [*Path(folder).iterdir()]
        assert len(pictures) == 6 and all(cv2.imread(str(path)).std() > 5 for path in pictures)
