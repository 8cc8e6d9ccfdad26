"""tools/export_onnx.py, and tools/test.py on what it writes."""

import base64
import copy
import json
import os
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.structures import BaseDataElement
from torch.torch_version import TorchVersion

from mmlolvit.cli.export_onnx import main as run_export
from mmlolvit.cli.infer import main as run_infer
from mmlolvit.cli.samples import check_order
from mmlolvit.cli.test import check_number
from mmlolvit.cli.test import main as run_test
from mmlolvit.deploy.graphs import (
    Classify,
    Detect,
    Segment,
    SegmentLogits,
    free_sizes,
    swaps_channels,
)
from mmlolvit.deploy.onnx import (
    OnnxModel,
    export_onnx,
    open_exported,
    open_model,
    read_metadata,
    run,
)
from mmlolvit.errors import UserError
from mmlolvit.models import FastWindowAttention, LOLViT
from mmlolvit.models.lolvit import ARCHS

from .test_models import settled

exports = pytest.mark.skipif(
    torch.__version__ < '2.6', reason='export needs torch 2.6 or newer: the tool refuses this one'
)

CONFIGS = Path(__file__).parents[1] / 'configs'
CLASSIFIER = 'cls/lolvit_x_digits'
SSDLITE = 'det/ssdlite_lolvit_x_digits'
FPN = 'seg/fpn_lolvit_x_digits'
METHODS = (
    CLASSIFIER,
    *(f'det/{name}_lolvit_x_digits' for name in ('retinanet', 'fcos', 'ssdlite')),
    *(f'seg/{name}_lolvit_x_digits' for name in ('fpn', 'segformer', 'deeplabv3plus')),
)
PHONE = {
    'Conv',
    'Relu',
    'Add',
    'Mul',
    'Concat',
    'Split',
    'MaxPool',
    'MatMul',
    'Reshape',
    'Transpose',
}


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder to work in, where the tools build the embedded sets."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp('export')
    os.chdir(folder)
    yield folder
    os.chdir(before)


def save_random(config: str) -> str:
    """A checkpoint of random weights that finds something everywhere; returns its name."""
    path = Path(f'{Path(config).name}.pth')
    if not path.exists():
        cfg = Config.fromfile(CONFIGS / f'{config}.py')
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor)).train()
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Conv2d) and 'bbox_head' in name and 'cls' in name:
                torch.nn.init.kaiming_normal_(module.weight)
                module.weight.data /= 2  # scores that are neither nearly equal nor 0 and 1
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
        if config in METHODS:
            model(torch.randn(8, 3, 160, 160), mode='tensor')
        ground = ('ground',) if 'seg/' in config else ()
        meta = dict(dataset_meta=dict(classes=(*ground, *'0123456789')))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    DefaultScope._instance_dict.clear()
    return str(path)


def read_map(text: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_UNCHANGED)


def predict(config: str, weights: str, *options: str) -> list[dict]:
    out = f'{weights}.json'
    options = ('test_dataloader.dataset.indices=4', *options)
    argv = [str(CONFIGS / f'{config}.py'), weights, '--out', out, '--cfg-options', *options]
    assert run_test(argv) == 0
    DefaultScope._instance_dict.clear()
    return json.loads(Path(out).read_text())['predictions']


@exports
@pytest.mark.slow
@pytest.mark.parametrize('config', METHODS)
def test_exported_model_predicts_what_the_checkpoint_does(workspace, config, capsys):
    checkpoint = save_random(config)
    argv = [str(CONFIGS / f'{config}.py'), checkpoint, '--dynamic', 'batch', 'size']
    assert run_export(argv) == 0
    file = Path(checkpoint).with_suffix('.onnx')
    assert f'{file}: ' in capsys.readouterr().out
    want, got = predict(config, checkpoint), predict(config, str(file))
    assert [a['image'] for a in got] == [b['image'] for b in want]
    for a, b in zip(got, want, strict=True):
        if 'map_png' in b:
            a, b = (torch.from_numpy(read_map(x['map_png'])) for x in (a, b))
            assert a.shape == (160, 160) and Segment.difference((a,), (b,)) < 0.02
        elif 'top_scores' in b:
            assert a['pred_label'] == b['pred_label']
            assert a['top_scores'] == pytest.approx(b['top_scores'], abs=1e-4)
        else:
            keys = ('boxes', 'scores', 'labels')
            a, b = (tuple(torch.tensor(x[key])[None] for key in keys) for x in (a, b))
            assert a[1].numel() > 20 and Detect.difference(a, b) < 0.01


@exports
@pytest.mark.slow
def test_a_file_of_one_size_takes_no_other(workspace, capsys):
    checkpoint = save_random(CLASSIFIER)
    argv = [str(CONFIGS / f'{CLASSIFIER}.py'), checkpoint, '--size', '48', '80', '--out', 'a.onnx']
    assert run_export([*argv, '--normalize', 'outside']) == 0
    session = open_model('a.onnx')
    assert session.get_inputs()[0].shape == [1, 3, 48, 80]
    metadata = read_metadata(session)
    assert metadata['classes'] == list('0123456789') and metadata['task'] == 'mmpretrain'
    assert metadata['config'] == 'lolvit_x_digits.py' and not metadata['normalized_inside']
    images = torch.randn(3, 3, 48, 80)
    alone = torch.cat([run(session, image[None])[0] for image in images])
    torch.testing.assert_close(run(session, images)[0], alone)
    DefaultScope._instance_dict.clear()
    argv = [str(CONFIGS / f'{CLASSIFIER}.py'), 'a.onnx', '--work-dir', 'work']
    assert run_test(argv) == 2
    assert 'takes images of 48 x 80, got 64 x 64' in capsys.readouterr().err


@exports
@pytest.mark.slow
@pytest.mark.parametrize('align_corners', [False, True])
def test_logits_are_resized_as_those_of_the_checkpoint(workspace, align_corners, capsys):
    checkpoint, option = save_random(FPN), f'model.decode_head.align_corners={align_corners}'
    file = f'logits_{align_corners}.onnx'
    argv = [str(CONFIGS / f'{FPN}.py'), checkpoint, '--logits', '--out', file]
    assert run_export([*argv, '--cfg-options', option]) == 0
    session = open_model(file)
    (logits,) = session.get_outputs()
    assert (logits.name, logits.type) == ('logits', 'tensor(float)')
    assert logits.shape == [1, 11, 176, 176]  # of scenes of 160 x 160
    want, got = predict(FPN, checkpoint, option), predict(FPN, file)
    maps = [
        [torch.from_numpy(read_map(image['map_png'])) for image in found] for found in (want, got)
    ]
    assert maps[0][0].shape == (160, 160) and len(maps[0][0].unique()) > 3
    assert Segment.difference(*([images] for images in maps)) < 1e-4
    small = cv2.resize(cv2.imread(got[0]['image']), (90, 100))
    cv2.imwrite('small.png', small)
    capsys.readouterr()
    argv = [str(CONFIGS / f'{FPN}.py'), file, 'small.png', got[0]['image']]
    assert run_infer([*argv, '--out', f'answers_{align_corners}']) == 1
    said = capsys.readouterr()
    assert '1 answers' in said.out and 'error: small.png of 90 x 100 px cannot be' in said.err


@pytest.mark.parametrize('align_corners', [False, True])
def test_answers_are_cut_and_resized_as_mmseg_does(align_corners):
    from mmseg.models.segmentors.base import BaseSegmentor
    from mmseg.structures import SegDataSample

    torch.manual_seed(0)
    padding = dict(padding_size=(0, 3, 0, 5))
    for meta in (dict(padding, ori_shape=(40, 31)), dict(padding, ori_shape=(27, 45))):
        logits = torch.randn(1, 4, 32, 48)
        samples = [SegDataSample(metainfo=meta) for _ in range(2)]
        model = SimpleNamespace(align_corners=align_corners)
        BaseSegmentor.postprocess_result(model, logits, samples[:1])
        SegmentLogits.answer(samples[1], logits[0], align_corners)
        want, got = (sample.pred_sem_seg.data for sample in samples)
        assert want.equal(got)


@exports
@pytest.mark.slow
@pytest.mark.parametrize(
    'config, normalize', [(CLASSIFIER, 'inside'), (CLASSIFIER, 'outside'), (SSDLITE, 'inside')]
)
def test_half_precision_is_inside_the_file(workspace, config, normalize, capsys):
    import onnx

    checkpoint = save_random(config)
    argv = [str(CONFIGS / f'{config}.py'), checkpoint, '--normalize', normalize]
    files = 'single.onnx', 'half.onnx'
    for file, flags in zip(files, ([], ['--fp16']), strict=True):
        assert run_export([*argv, '--out', file, *flags]) == 0
        DefaultScope._instance_dict.clear()
    assert 'half precision from that by ' in capsys.readouterr().out
    whole, half = map(open_model, files)
    assert Path(files[1]).stat().st_size < 0.6 * Path(files[0]).stat().st_size
    assert read_metadata(half) == read_metadata(whole)
    ends = [[(x.name, x.type) for x in (*s.get_inputs(), *s.get_outputs())] for s in (whole, half)]
    assert ends[0] == ends[1] and dict(ends[1])['image'] == 'tensor(float)'

    graph = onnx.load(files[1]).graph
    casts = [node.attribute[0].i for node in graph.node if node.op_type == 'Cast']
    assert casts.count(onnx.TensorProto.FLOAT16) == 1  # nothing comes back, as coordinates would
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    weights = {
        types[name] for node in graph.node if node.op_type == 'Conv' for name in node.input[1:]
    }
    assert weights == {onnx.TensorProto.FLOAT16}
    images = digits(8, *whole.get_inputs()[0].shape[2:])
    images = images if normalize == 'inside' else (images - 120) / 58
    want, got = (run(session, images) for session in (whole, half))
    difference = Classify.difference if config == CLASSIFIER else Detect.difference
    assert difference(want, got) < 0.01


def digits(number: int, height: int, width: int) -> torch.Tensor:
    """Images of the test set as an exported model takes them, (B, 3, H, W)."""
    files = sorted(Path('data/digits/val').rglob('*.png'))[:: 360 // number][:number]
    images = [cv2.resize(cv2.imread(file), (width, height)) for file in files]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


@exports
@pytest.mark.slow
@pytest.mark.parametrize('factor', [1.5, float('nan')])
def test_half_precision_that_differs_is_not_written(workspace, factor, monkeypatch, capsys):
    import onnx

    from mmlolvit.deploy.half import halve

    def broken(source, target):
        halve(source, target)
        model = onnx.load(target)
        weight = next(x for x in model.graph.initializer if x.name.endswith('stem.0.weight'))
        array = onnx.numpy_helper.to_array(weight) * np.float16(factor)
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
        onnx.save(model, target)

    monkeypatch.setattr('mmlolvit.cli.export_onnx.halve', broken)
    argv = [str(CONFIGS / f'{CLASSIFIER}.py'), save_random(CLASSIFIER), '--out', 'wrong.onnx']
    assert run_export([*argv, '--fp16']) == 1
    assert 'half precision differs from float32' in capsys.readouterr().err
    assert not [*Path().glob('wrong*'), *Path().glob('.export-*')]


@exports
@pytest.mark.slow
def test_int8_is_small_and_close(workspace, capsys):
    import onnx

    checkpoint = save_random(CLASSIFIER)
    argv = [str(CONFIGS / f'{CLASSIFIER}.py'), checkpoint]
    for out, flags in (('whole.onnx', []), ('int8.onnx', ['--int8'])):
        assert run_export([*argv, '--out', out, *flags]) == 0
        DefaultScope._instance_dict.clear()
    assert '; 8 bits from that by ' in capsys.readouterr().out
    assert Path('int8.onnx').stat().st_size < 0.35 * Path('whole.onnx').stat().st_size
    assert read_metadata(open_model('int8.onnx')) == read_metadata(open_model('whole.onnx'))
    nodes = onnx.load('int8.onnx').graph.node
    made = {name: node for node in nodes for name in node.output}
    for node in nodes:
        if node.op_type in ('Conv', 'MatMul', 'Gemm'):
            assert {made[name].op_type for name in node.input[:2]} == {'DequantizeLinear'}
    images = digits(36, 64, 64)
    want, got = (run(open_model(name), images)[0] for name in ('whole.onnx', 'int8.onnx'))
    # Of the variance over the images; scores that do not follow them miss all of it.
    missed = (want - got).square().mean() / want.var(dim=0).mean()
    assert 0 < missed < 0.25
    assert not list(Path().glob('.export-*'))


class Backbone(torch.nn.Module):
    outputs = ('stage2', 'stage3', 'stage4')

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return self.model(image)


@exports
@pytest.mark.slow
def test_a_static_backbone_needs_nothing_that_a_phone_lacks(tmp_path):
    import onnx

    model = LOLViT('x', out_indices=(1, 2, 3))
    export_onnx(model, Backbone, tmp_path / 'a.onnx', (256, 256), normalize=False)
    nodes = onnx.load(tmp_path / 'a.onnx').graph.node
    assert {node.op_type for node in nodes} <= PHONE
    assert b'/mmlolvit/' not in (tmp_path / 'a.onnx').read_bytes()  # a path of this machine


@exports
@pytest.mark.slow
@pytest.mark.parametrize('arch', ARCHS)
def test_a_backbone_of_any_size_is_right_at_sizes_that_were_not_exported(tmp_path, arch):
    torch.manual_seed(0)
    model = settled(LOLViT(arch, out_indices=(1, 2, 3)))
    file = tmp_path / 'a.onnx'
    export_onnx(model, Backbone, file, (64, 96), ('batch', 'size'), normalize=False)
    session = open_model(str(file))
    for size in ((33, 70), (97, 64), (20, 31), (224, 160)):
        images = torch.randn(3, 3, *size)
        with torch.no_grad():
            want = model(images)
        for a, b in zip(run(session, images), want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())


@pytest.mark.parametrize('aggregation', ['max', 'mean'])
@pytest.mark.parametrize('size', [(16, 16), (10, 23), (1, 40), (7, 1)], ids=str)
def test_windows_found_in_the_graph_are_the_same(aggregation, size):
    torch.manual_seed(0)
    fwa = FastWindowAttention(8, 4, aggregation=aggregation).eval()
    x = torch.randn(2, 8, *size)
    want = fwa(x)
    free_sizes(fwa)
    torch.testing.assert_close(fwa(x), want)


def test_an_older_torch_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch, '__version__', TorchVersion('2.4.1'))
    assert run_export([str(CONFIGS / f'{CLASSIFIER}.py'), 'none.pth']) == 2
    assert 'export needs torch 2.6 or newer' in capsys.readouterr().err


def test_boxes_in_the_padding_are_no_answer_and_the_rest_is_of_the_image():
    boxes = torch.tensor([[0.0, 0, 80, 64], [96, 0, 128, 64], [10, 10, 20, 20], [1, 1, 2, 2]])
    sample = BaseDataElement(metainfo=dict(img_shape=(64, 72), scale_factor=(2.0, 4.0)))
    Detect.answer(sample, boxes, torch.tensor([0.9, 0.8, 0.7, 0]), torch.tensor([3, 1, 2, -1]))
    found = sample.pred_instances
    assert found.bboxes.tolist() == [[0, 0, 36, 16], [5, 2.5, 10, 5]]
    assert found.labels.tolist() == [3, 2]


def test_difference_counts_boxes_pixels_and_scores():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [20, 20, 30, 30]]])
    scores, labels = torch.tensor([[0.9, 0.5]]), torch.tensor([[1, 2]])
    answer = boxes, scores, labels
    swapped = tuple(x.flip(1) for x in answer)
    assert Detect.difference(answer, swapped) == 0
    for other in (
        (boxes + torch.tensor([[[0], [3]]]), scores, labels),
        (boxes, scores - torch.tensor([[0.0, 0.1]]), labels),
        (boxes, scores, labels + torch.tensor([[0, 1]])),
    ):
        assert Detect.difference(answer, other) == 0.5
    weak = torch.tensor([[0.9, 0.04]])
    assert Detect.difference((boxes, weak, labels), (boxes[:, :1], weak[:, :1], labels[:, :1])) == 0
    assert Detect.changed(answer, (*answer[:2], labels + torch.tensor([[0, 1]]))) == (2, 4)
    nothing = [torch.zeros(0, 4)], [torch.zeros(0)], [torch.zeros(0)]
    assert Detect.changed(nothing, nothing) == (0, 0)
    assert Detect.difference(nothing, answer) == Detect.difference(answer, nothing) == 1
    pixels = torch.zeros(1, 2, 5, dtype=torch.long)
    assert Segment.difference((pixels,), (pixels,)) == 0
    other = pixels.clone()
    other[0, 1, 2] = 3
    assert Segment.difference((pixels,), (other,)) == pytest.approx(0.1)
    assert Segment.changed((pixels,), (other,)) == (1, 10)
    one, two = (F.one_hot(x, 4).permute(0, 3, 1, 2) for x in (pixels, other))
    assert SegmentLogits.changed((one,), (two,)) == (1, 10)
    scores = torch.tensor([[0.6, 0.4], [0.3, 0.7]])
    assert Classify.changed((scores,), (scores.flip(1),)) == (2, 2)
    assert Classify.difference((scores,), (scores.flip(1),)) == pytest.approx(0.4)


@exports
@pytest.mark.slow
def test_a_wrong_file_is_not_written(workspace, monkeypatch, capsys):
    from mmlolvit.deploy import graphs

    checkpoint = save_random(CLASSIFIER)
    argv = [str(CONFIGS / f'{CLASSIFIER}.py'), checkpoint, '--out', 'wrong.onnx']
    # Windows of 2, right at 64 px, and wrong at the second size.
    monkeypatch.setattr(graphs, '_adaptive_windows', windows_of_2)
    assert run_export([*argv, '--dynamic', 'size']) == 1
    assert 'differs from PyTorch' in capsys.readouterr().err
    assert not [*Path().glob('wrong*'), *Path().glob('.export-*')]


def windows_of_2(n):
    place = torch.arange(0, n, 2)[:, None] + torch.arange(2)
    return place.clamp(max=n - 1), place < n


@pytest.mark.parametrize('name', [CLASSIFIER, 'det/retinanet_lolvit_x_digits', FPN])
def test_of_each_library_it_is_known_who_swaps_channels(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    for swaps in (True, False):
        key = 'to_rgb' if name == CLASSIFIER else 'bgr_to_rgb'
        settings = dict(cfg.model.get('data_preprocessor') or cfg.data_preprocessor)
        settings.setdefault('type', 'ClsDataPreprocessor')
        assert swaps_channels(MODELS.build(settings | {key: swaps})) is swaps


def test_classes_of_another_order_are_refused():
    def check(*names):
        check_order(('ant', 'bee', 'ant'), SimpleNamespace(metainfo=dict(classes=names)))

    for same in (('ant', 'bee', 'ant'), ('ant', 'bee'), ('ant', 'bee', 'lynx')):
        check(*same)
    for other in (('bee', 'ant'), ('ant', 'ant', 'bee')):
        with pytest.raises(
            UserError, match=r'has the number . in the data set, and . in the model'
        ):
            check(*other)


@exports
@pytest.mark.slow
def test_a_data_set_of_other_classes_is_refused(workspace):
    argv = [str(CONFIGS / f'{CLASSIFIER}.py'), save_random(CLASSIFIER), '--out', 'c.onnx']
    assert run_export(argv) == 0
    model, dataset = OnnxModel('c.onnx'), SimpleNamespace(metainfo=dict(classes=('cat', 'dog')))
    with pytest.raises(UserError, match='the model has 10 classes, the data set 2'):
        check_number(model.metadata['classes'], dataset)
    assert copy.deepcopy(model) is model  # the EMA hook of a config copies


TOLD = dict(
    task='"mmpretrain"', classes='["a", "b"]', normalized_inside='true', align_corners='false'
)


def save_model(path, name='image', shape=(1, 3, 8, 8), outputs=('scores',), kind=1, **told) -> str:
    """A model that gives what it takes, with metadata as those of tools/export_onnx.py."""
    from onnx import helper, save

    graph = helper.make_graph(
        [helper.make_node('Identity', [name], [output]) for output in outputs],
        'graph',
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info(output, kind, shape) for output in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    helper.set_model_props(model, {k: v for k, v in (TOLD | told).items() if v is not None})
    save(model, path)
    return str(path)


@exports
def test_a_file_of_another_tool_is_refused(tmp_path):
    for shape in ((1, 3, 8, 8), ('batch', 3, 'height', 'width')):
        _, metadata, graph = open_exported(save_model(tmp_path / 'ours.onnx', shape=shape))
        assert (metadata['classes'], graph) == (['a', 'b'], Classify)
    for change in (
        *(dict(task=task) for task in (None, '5', '[1]', '"other"', '"mmdet"', '{', '[' * 100000)),
        *(dict(classes=names) for names in (None, '5', '[["a"]]', '{"a": 1}')),
        *(dict(normalized_inside=value) for value in (None, '"yes"')),
        dict(align_corners='"yes"'),
        dict(name='picture'),
        *(dict(shape=shape) for shape in ((1, 3), (1, 1, 8, 8), (0, 3, 8, 8))),
        *(dict(outputs=outputs) for outputs in (('logits',), ('scores', 'more'))),
        dict(kind=11),  # double
    ):
        with pytest.raises(UserError, match=r'was not made by tools/export_onnx.py'):
            open_exported(save_model(tmp_path / 'other.onnx', **change))


@exports
@pytest.mark.slow
def test_mistakes_are_one_message(workspace, capsys):
    mask_rcnn = 'det/mask-rcnn_lolvit_x_digits'
    one, other = save_random(CLASSIFIER), save_random(mask_rcnn)
    Path('text.onnx').write_text('not a model')
    Path('folder.onnx').mkdir()
    digits = str(CONFIGS / f'{CLASSIFIER}.py')
    assert run_export([digits, one, '--out', 'b.onnx']) == 0
    config, detector = (str(CONFIGS / f'{name}.py') for name in (CLASSIFIER, mask_rcnn))
    fixed = ['--cfg-options', 'model.backbone.fwa_cfg.window=1']
    fpn = str(CONFIGS / 'seg/fpn_lolvit_x_digits.py')
    for tool, argv, message in (
        (run_export, [detector, other], 'MaskRCNN is not exported'),
        (run_export, [config, other], 'is of another architecture'),
        (run_export, [config, one, '--out', 'a.pth'], 'a name that ends in .onnx'),
        (run_export, [config, one, '--out', 'folder.onnx'], 'folder.onnx is a folder, expected'),
        (run_export, [config, one, '--size', '0'], 'expects a side'),
        (run_export, [config, one, '--logits'], '--logits is for segmentation'),
        (run_export, [config, one, '--fp16', '--int8'], 'not allowed with'),
        (run_test, [config, 'none.onnx'], 'does not exist'),
        (run_test, [config, 'text.onnx'], 'no model that ONNX Runtime reads'),
        (run_test, [fpn, 'b.onnx'], 'made for mmpretrain'),
        (run_test, [config, 'b.onnx', '--tta'], 'without --tta'),
        (run_export, [config, one, '--dynamic', 'size', *fixed], 'adaptive windows, got 1'),
    ):
        DefaultScope._instance_dict.clear()
        try:
            code = tool(argv)
        except SystemExit as error:
            code = error.code
        assert (code, message in capsys.readouterr().err) == (2, True), message
