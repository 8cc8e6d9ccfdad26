"""tools/visualize.py and what it computes, on tiny nets, images and trainings."""

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from mmlolvit.analysis.attention import attention_maps, find_edges, image_attention
from mmlolvit.analysis.field import receptive_field, smallest_square
from mmlolvit.analysis.frame import find_frame
from mmlolvit.analysis.gradcam import grad_cam
from mmlolvit.analysis.schedule import run_schedule
from mmlolvit.cli.train import main as train
from mmlolvit.cli.visualize import draw_samples, main
from mmlolvit.datasets import ensure_embedded
from mmlolvit.deploy import fuse
from mmlolvit.drawing import PAPER, make_sheet
from mmlolvit.errors import UserError
from mmlolvit.inference import Predictor, build_model
from mmlolvit.models import FastWindowAttention, LOLViT
from mmlolvit.zoo import CONFIGS, load_config

from .helpers import exit_code
from .test_fwa import make as make_fwa
from .test_hostile import header

pytestmark = pytest.mark.usefixtures('one_thread')
NAMES = dict(cls='lolvit_xx_digits', det='retinanet_lolvit_x_digits', seg='fpn_lolvit_x_digits')


def make_predictor(name='lolvit_xx_digits', pipeline=None, **model) -> Predictor:
    """With random weights."""
    cfg, task = load_config(name, dict(model=model), ())
    if pipeline:
        cfg.test_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile'), *pipeline]
    torch.manual_seed(0)
    model = build_model(cfg)
    model.init_weights()
    return Predictor(cfg, task, model, dict(classes=tuple('0123456789')))


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('score', ['relu', 'softmax', 'relu_norm'])
@pytest.mark.parametrize('window', ['adaptive', 1, 3, ('grid', 3)])
def test_values_times_the_weights_are_what_fwa_puts_out(score, window, fused):
    fwa, x = make_fwa(score=score, window=window), torch.randn(2, 6, 7, 10)
    want = fwa(x)
    if fused:
        fuse(fwa)
    (weights,) = attention_maps(nn.ModuleDict(dict(part=fwa)).part, x).values()
    t, _ = fwa.aggregate(fwa.in_norm(x))
    assert weights.shape == (2, *t.shape[2:], 7, 10)
    y = torch.einsum('bcij,bijhw->bchw', fwa.v(t), weights)
    if fused:
        y = y + fwa.bias[..., None]
    torch.testing.assert_close(fwa.out_norm(y), want, rtol=1e-4, atol=1e-5)
    if score != 'relu':
        torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2, 7, 10))


def test_looking_at_the_attention_leaves_the_model_as_it_was():
    model, x = LOLViT('xx').train(), torch.randn(2, 3, 96, 64)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    maps = attention_maps(model, x)
    assert list(maps) == [f'stages.{i}.1.fusion.branch.attention' for i in (2, 3)]
    assert [tuple(m.shape) for m in maps.values()] == [(2, 2, 2, 6, 4), (2, 2, 1, 3, 2)]
    assert model.training
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    fwas = [m for m in model.modules() if isinstance(m, FastWindowAttention)]
    assert not any({'attend', 'aggregate'} & vars(fwa).keys() for fwa in fwas)


@pytest.mark.parametrize('window', ['adaptive', 1, 3, 100, ('grid', 3)])
@pytest.mark.parametrize('size', [1, 7, 9, 16])
def test_edges_are_those_of_the_windows(size, window):
    t, area = make_fwa(window=window).aggregate(torch.zeros(1, 6, size, size))
    edges = find_edges(size, window)
    assert len(edges) == t.shape[2] + 1 and (edges[0], edges[-1]) == (0, size)
    if isinstance(area, torch.Tensor):
        sides = torch.as_tensor(np.diff(edges) / size, dtype=area.dtype)
        torch.testing.assert_close(area, torch.outer(sides, sides).flatten())


PIPELINES = [
    [],
    [dict(type='Resize', scale=(96, 64))],
    [
        dict(type='ResizeEdge', scale=72, edge='short', backend='pillow', interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=64),
    ],
    [
        dict(type='Resize', scale=(80, 80), keep_ratio=True),
        dict(type='Pad', size=(96, 96)),
        dict(type='RandomFlip', prob=1.0, direction='horizontal'),
    ],
]


@pytest.mark.parametrize('pipeline', PIPELINES)
@pytest.mark.parametrize('size', [(64, 64), (50, 120), (300, 260)])
def test_a_frame_says_where_the_pipeline_puts_a_pixel(pipeline, size):
    predictor = make_predictor(pipeline=[*pipeline, dict(type='PackInputs')])
    frame = find_frame(predictor, *size)
    image = np.zeros((*size, 3), np.uint8)
    image[size[0] // 2 - 8 : size[0] // 2 + 4, size[1] // 2 - 4 : size[1] // 2 + 8] = 255
    center = np.array([size[1] // 2 + 2, size[0] // 2 - 2])
    seen = predictor.read(image)['prepared']['inputs'].float().mean(0).numpy()
    rows, columns = np.indices(seen.shape) + 0.5
    found = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
    np.testing.assert_allclose(np.multiply(frame.scale, center) + frame.shift, found, atol=0.5)


@pytest.mark.parametrize('size', [(1, 7), (2, 2), (3, 1)])
def test_a_frame_of_the_smallest_images(size):
    pipeline = [dict(type='Resize', scale=(64, 32)), dict(type='PackInputs')]
    frame = find_frame(make_predictor(pipeline=pipeline), *size)
    np.testing.assert_allclose(frame.scale, (64 / size[1], 32 / size[0]), rtol=0.02)


def test_a_pipeline_that_turns_images_is_refused():
    turn = dict(type='Rotate', angle=20.0, prob=1.0, random_negative_prob=0.0)
    predictor = make_predictor(pipeline=[turn, dict(type='PackInputs')])
    with pytest.raises(UserError, match='more to an image than to resize, crop, flip and pad'):
        find_frame(predictor, 64, 64)


@pytest.mark.parametrize('pipeline', PIPELINES)
def test_a_pixel_is_where_the_map_sees_it(pipeline):
    """What changes at a pixel changes the query of its position most."""
    predictor = make_predictor(pipeline=[*pipeline, dict(type='PackInputs')])
    image = np.full((100, 120, 3), 90, np.uint8)
    name, block = next(iter(image_attention(predictor, image).items()))
    x, y = 61, 42
    column, row = block.find_position(x, y)
    (left, right), (top, bottom) = (
        sorted(np.round(edges[i : i + 2]).astype(int).tolist())
        for edges, i in zip(block.position_edges, (column, row), strict=True)
    )
    assert left <= x < right and top <= y < bottom
    changed = image.copy()
    changed[max(top, 0) : bottom, max(left, 0) : right] = 255
    maps = []
    handle = dict(predictor.model.named_modules())[name].register_forward_pre_hook(
        lambda _, inputs: maps.append(inputs[0])
    )
    predictor([image, changed])
    handle.remove()
    before, after = torch.cat(maps)
    difference = (after - before).abs().sum(0)
    assert divmod(int(difference.argmax()), difference.shape[1]) == (row, column)


def test_a_pixel_that_is_cropped_away_is_told():
    crop = [dict(type='CenterCrop', crop_size=64), dict(type='PackInputs')]
    block, *_ = image_attention(
        make_predictor(pipeline=crop), np.zeros((64, 128, 3), np.uint8)
    ).values()
    assert block.at(32, 0).shape == block.at(95, 63).shape == (2, 2)
    for x in (31, 96):
        with pytest.raises(UserError, match='gives the model x = 32 to 95 only'):
            block.at(x, 0)


@pytest.mark.parametrize('task', NAMES)
def test_attention_of_every_task(task):
    blocks = image_attention(make_predictor(NAMES[task]), np.zeros((50, 80, 3), np.uint8))
    assert len(blocks) == 2
    for block in blocks.values():
        for edges, end in zip(block.position_edges, (80, 50), strict=True):
            assert abs(edges[0]) < 0.5 and edges[-1] > end - 0.5


def test_without_attention_there_is_nothing_to_see():
    predictor = make_predictor(backbone=dict(global_share=0))
    with pytest.raises(UserError, match='no FastWindowAttention'):
        image_attention(predictor, np.zeros((64, 64, 3), np.uint8))


def test_grad_cam_is_of_the_class_that_is_asked_about():
    pytest.importorskip('captum')
    predictor, image = make_predictor(), np.zeros((128, 128, 3), np.uint8)
    image[16:48, 16:48] = 255
    answer = predictor(image)
    predicted = grad_cam(predictor, image)
    assert predicted.label == predicted.predicted == answer['label']
    assert predicted.score == pytest.approx(answer['score'], abs=1e-6)
    assert predicted.heat.shape == (4, 4) and predicted.heat.min() >= 0
    np.testing.assert_allclose(predicted.extent, (0, 128, 128, 0), atol=1e-3)
    other = grad_cam(predictor, image, (answer['label'] + 1) % 10)
    assert other.score < predicted.score and not np.allclose(other.heat, predicted.heat)
    # By hand: for a linear layer on the mean, the class's weights are the channels'.
    inputs = torch.from_numpy(image.transpose(2, 0, 1)[None])
    inputs = predictor.model.data_preprocessor(dict(inputs=inputs))['inputs']
    features = predictor.model.backbone(inputs)[-1][0]
    weight = predictor.model.head.fc.weight[other.label]
    want = (torch.einsum('c,chw->hw', weight, features) / 16).relu()
    np.testing.assert_allclose(other.heat, want.detach(), rtol=1e-3, atol=1e-6)


def test_grad_cam_is_drawn_where_the_map_is():
    """Four positions of 32 px a side, which reach beyond an image of 100 x 130."""
    pytest.importorskip('captum')
    cam = grad_cam(make_predictor(), np.zeros((100, 130, 3), np.uint8))
    assert cam.heat.shape == (4, 5)
    np.testing.assert_allclose(cam.extent, (0, 160, 128, 0), atol=1e-3)


def test_grad_cam_refuses_what_it_cannot_explain():
    pytest.importorskip('captum')
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UserError, match='expected 0 to 9, for 10 classes'):
        grad_cam(make_predictor(), image, 10)
    with pytest.raises(UserError, match=r'config of classification .* got one of mmseg'):
        grad_cam(make_predictor(NAMES['seg']), image)


def test_receptive_field_of_stacked_convolutions():
    convs = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding=1, bias=False) for _ in range(2)))
    for conv in convs:
        nn.init.ones_(conv.weight)
    field = receptive_field(convs, torch.randn(3, 2, 11, 15))
    want = np.zeros((11, 15))
    want[3:8, 5:10] = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]) / 81
    np.testing.assert_allclose(field, want, atol=1e-9)
    # 9, 49 and 81 of 81 are in the squares of 1, 3 and 5 px.
    assert smallest_square(field, 9 / 81) == (7, 5, 1)
    assert smallest_square(field, 0.5) == (6, 4, 3)
    assert smallest_square(field, 0.95) == (5, 3, 5)


def test_a_backbone_may_count_its_channels_up(tmp_path, monkeypatch):
    """MobileNetV2's `in_channels` are those of its last layer once it is built."""
    monkeypatch.chdir(tmp_path)
    backbone = "dict(_delete_=True, type='mmpretrain.MobileNetV2')"
    Path('mobile.py').write_text(
        f"_base_ = 'mmlolvit::cls/lolvit_xx_digits.py'\nmodel = dict(backbone={backbone})\n"
    )
    assert main(['field', 'mobile.py', '--size', '64', '--out', 'p.png']) == 0


def test_receptive_field_of_fwa_is_the_whole_image():
    images = torch.randn(2, 3, 256, 320)
    torch.manual_seed(0)
    local, whole = (
        receptive_field(LOLViT('xx', global_share=share), images) > 0 for share in (0, 0.125)
    )
    assert local.any(1).sum() < 256 and not local.all()
    corners = [whole[rows, columns].any() for rows in (slice(64), slice(192, 256))
               for columns in (slice(64), slice(256, 320))]  # fmt: skip
    assert all(corners)


@HOOKS.register_module()
class WriteRates(Hook):
    """The learning rate and momentum that each iteration of a real training works with."""

    seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        groups = runner.optim_wrapper.optimizer.param_groups
        momenta = {group.get('momentum') or group['betas'][0] for group in groups}
        self.seen.append(({group['lr'] for group in groups}, momenta))


ITER_LOOP = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=7, val_interval=7)
TRAININGS = dict(
    one_cycle={},
    warm_up_and_steps=dict(
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
            dict(type='MultiStepLR', milestones=[2], by_epoch=True),
        ]
    ),
    groups_and_momentum=dict(
        optim_wrapper=dict(
            optimizer=dict(_delete_=True, type='SGD', lr=0.1, momentum=0.9, weight_decay=0.1),
            paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=0.1))),
        ),
        param_scheduler=[
            dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
            dict(type='LinearMomentum', start_factor=0.5, by_epoch=True, end=2),
        ],
    ),
    iterations=dict(
        train_cfg=ITER_LOOP,
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
            dict(type='PolyLR', power=0.9, by_epoch=False, begin=3),
        ],
        auto_scale_lr=dict(enable=True, base_batch_size=16),
    ),
)


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """A folder with the embedded digits."""
    folder = tmp_path_factory.mktemp('digits')
    ensure_embedded(dict(embedded_data=dict(type='digits', data_root=str(folder / 'digits'))))
    return folder / 'digits'


def make_config(folder: Path, digits: Path, **settings) -> Path:
    """A training of 3 epochs of 3 iterations of 8 digits."""
    text = f"""
_base_ = {str(CONFIGS / 'cls/lolvit_xx_digits.py')!r}
embedded_data = None
train_dataloader = dict(
    batch_size=8, dataset=dict(data_root={str(digits)!r}, indices=20)
)
train_cfg = dict(max_epochs=3, val_interval=100)
val_dataloader = val_cfg = val_evaluator = None
custom_hooks = [dict(type='WriteRates')]
"""
    text += ''.join(f'{key} = {value!r}\n' for key, value in settings.items())
    path = folder / 'tiny.py'
    path.write_text(text)
    return path


@pytest.mark.parametrize('name', TRAININGS)
def test_schedule_is_what_a_training_steps_through(name, digits, tmp_path):
    path = make_config(tmp_path, digits, **TRAININGS[name])
    WriteRates.seen.clear()
    assert train([str(path), '--work-dir', str(tmp_path / 'w')]) == 0
    cfg, _ = load_config(str(path), {}, ())
    schedule = run_schedule(cfg, build_model(cfg))
    assert len(schedule.lr) == len(WriteRates.seen) == (7 if name == 'iterations' else 9)
    assert schedule.per_epoch == (None if name == 'iterations' else 3)
    for i, (rates, momenta) in enumerate(WriteRates.seen):
        assert sorted(set(schedule.lr[i])) == pytest.approx(sorted(rates), rel=1e-12)
        assert set(schedule.momentum[i]) == momenta
    if name == 'groups_and_momentum':
        assert sorted(schedule.tensors)[0] == 2  # of the head


def test_schedule_by_iterations_needs_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ['train_cfg.max_iters=50', 'param_scheduler.1.end=50', 'param_scheduler.0.end=10']
    options += ['param_scheduler.1.begin=10']
    assert main(['schedule', 'fpn_lolvit_x_bdd100k', '--cfg-options', *options]) == 0
    assert cv2.imread('schedule.png').shape[1] > 800


@pytest.fixture(scope='module')
def squares(tmp_path_factory):
    """Three grey images (80, 120) with a 7 in 20..59 x 10..39, as COCO and as BDD100K have them."""
    folder = tmp_path_factory.mktemp('squares')
    for part in ('images/10k/train', 'labels/sem_seg/masks/train', 'annotations'):
        (folder / part).mkdir(parents=True)
    mask = np.zeros((80, 120), np.uint8)
    mask[10:40, 20:60] = 8
    mask[:, 100:] = 255  # ignored
    for i in range(3):
        cv2.imwrite(f'{folder}/images/10k/train/{i}.png', np.full((80, 120, 3), 120 + i, np.uint8))
        cv2.imwrite(f'{folder}/labels/sem_seg/masks/train/{i}.png', mask)
    outline = [20, 10, 60, 10, 60, 40, 20, 40]
    content = dict(
        images=[dict(id=i, file_name=f'{i}.png', width=120, height=80) for i in range(3)],
        annotations=[
            dict(id=i, image_id=i, category_id=7, bbox=[20, 10, 40, 30], area=1200, iscrowd=0,
                 segmentation=[outline])
            for i in range(3)
        ],
        categories=[dict(id=i, name=str(i)) for i in range(10)],
    )  # fmt: skip
    (folder / 'annotations/train.json').write_text(json.dumps(content))
    return folder


def load_samples(task: str, folder: Path, *between: dict):
    """The config's training data from a folder, its augmentations in the place of its own."""
    cfg, library = load_config(NAMES[task], {}, ())
    dataset = cfg.train_dataloader.dataset
    first, last = (2, -1) if task != 'cls' else (1, -1)
    dataset.pipeline = [*dataset.pipeline[:first], *between, dataset.pipeline[last]]
    dataset.data_root = str(folder)
    return cfg, library


def test_boxes_and_masks_are_drawn_where_the_pipeline_puts_them(squares):
    flip = dict(type='RandomFlip', prob=1.0, direction='horizontal')
    pictures = draw_samples(*load_samples('det', squares, flip), 3)
    assert [picture.shape for picture in pictures] == [(320, 480, 3)] * 3
    assert len({picture[0, 0, 0] for picture in pictures}) == 3  # each image once
    for picture in pictures:
        # Flipped, the 7 is in 60..99 of 120; the picture has 4 px for each.
        ground, frame, inside = picture[0, 0], picture[100, 400], picture[100, 300]
        assert (picture[100, 240] == frame).all() and (frame != ground).any()
        assert (picture[100, 239 - 4] == ground).all() and (picture[100, 405] == ground).all()
        assert (inside == ground // 2 + frame // 2).all()


def test_maps_are_drawn_with_a_legend(squares):
    pictures = draw_samples(*load_samples('seg', squares), 2)
    cfg, _ = load_config(NAMES['seg'], {}, ())
    ground, seven = (np.array(cfg.metainfo.palette[i]) for i in (0, 8))
    for picture in pictures:
        assert picture.shape[0] > 320 and picture.shape[1] == 480
        grey = picture[0, 479, 0] // 2  # what is ignored stays as it is
        assert grey in (60, 61)
        assert (picture[0, 0] == grey + ground // 2).all()
        assert (picture[100, 200] == grey + seven // 2).all()
        legend = picture[320:].reshape(-1, 3)
        assert all((legend == color).all(1).any() for color in (ground, seven))


def test_classes_are_written_below(digits):
    cfg, library = load_samples('cls', digits)
    cfg.train_dataloader.dataset.indices = 200
    pictures = draw_samples(cfg, library, 30)
    assert {picture.shape for picture in pictures} == {(350, 320, 3)}
    strips = {picture[320:].tobytes() for picture in pictures}
    assert 1 < len(strips) <= 10 and len({picture.tobytes() for picture in pictures}) == 30


def test_large_images_are_drawn_smaller(squares):
    large = dict(type='Resize', scale=(1500, 1000), keep_ratio=False)
    for task in ('det', 'seg'):
        picture, *_ = draw_samples(*load_samples(task, squares, large), 1)
        assert picture.shape[1] == 500
        assert (picture[150, 165] != picture[5, 5]).any()  # of 1500: 250..750 x 125..500


@pytest.mark.parametrize('number', [1, 2, 5, 7, 16])
def test_a_sheet_shows_every_picture(number):
    shapes = [(40 + 7 * (i % 3), 60 - 9 * (i % 4)) for i in range(number)]
    pictures = [np.full((*shape, 3), i + 1, np.uint8) for i, shape in enumerate(shapes)]
    values, counts = np.unique(make_sheet(pictures)[..., 0], return_counts=True)
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    del found[PAPER[0]]
    assert found == {i + 1: h * w for i, (h, w) in enumerate(shapes)}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Random weights of each task and an image."""
    folder = tmp_path_factory.mktemp('weights')
    for task, name in NAMES.items():
        torch.save(dict(state_dict=make_predictor(name).model.state_dict()), folder / f'{task}.pth')
    (folder / 'bomb.png').write_bytes(header(30000, 30000))
    (folder / 'folder.png').mkdir()
    os.mkfifo(folder / 'pipe.png')  # to open it would wait for a writer
    cv2.imwrite(str(folder / 'a.png'), np.random.default_rng(0).integers(255, size=(64, 96, 3)))
    return folder


@pytest.mark.parametrize(
    'command',
    [
        'attention CLS cls.pth a.png --pixel 0 0 95 63',
        'attention DET det.pth a.png',
        'attention SEG seg.pth a.png',
        'gradcam CLS cls.pth a.png --label 3',
        'field CLS --size 64 96',
        'field SEG seg.pth --size 64 --images a.png a.png',
    ],
)
def test_the_tool_writes_a_picture(command, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(weights)
    if 'gradcam' in command:
        pytest.importorskip('captum')
    argv = [NAMES.get(word.lower(), word) for word in command.split()]
    out = tmp_path / 'new' / 'p.png'
    assert main([*argv, '--out', str(out)]) == 0
    assert f'picture in {out}' in capsys.readouterr().out
    assert cv2.imread(str(out)).std() > 5


MISTAKES = [
    ('attention CLS cls.pth a.png --pixel 96 0', '--pixel 96 0 is outside of a.png: expected X of'),
    ('attention CLS cls.pth a.png --pixel 1 2 3', '--pixel expects X Y, or several pairs of them'),
    ('attention CLS cls.onnx a.png', 'cls.onnx is an exported model'),
    ('attention CLS cls.pth b.png', 'b.png cannot be read as an image: No such file'),
    ('gradcam CLS cls.onnx a.png', 'expected the checkpoint that it was made from'),
    ('gradcam DET det.pth a.png', 'expected a config of classification'),
    ('gradcam CLS cls.pth a.png --label eight', '--label eight: the model knows no such class'),
    ('gradcam CLS cls.pth a.png --label 10', 'label 10: expected 0 to 9, for 10 classes'),
    ('field CLS cls.png', 'cls.png'),
    ('field CLS --images cls.pth', 'cls.pth cannot be read as an image'),
    ('field CLS --images bomb.png', 'bomb.png cannot be read as an image: it says to be 30000 x'),
    ('field CLS --images pipe.png', 'pipe.png cannot be read as an image: it is no file'),
    ('attention CLS cls.pth pipe.png', 'pipe.png cannot be read as an image: it is no file'),
    ('field CLS --out folder.png', 'folder.png is a folder, expected the name of a file'),
    ('field CLS --size 1 2 3', '--size expects a side, or height and width'),
    ('samples CLS --number 0', '--number expects at least 1, got 0'),
    ('samples lolvit_x_in1k', 'folder data/imagenet/train does not exist'),
    ('schedule lolvit_x_in1k', 'folder data/imagenet/train does not exist'),
    ('schedule CLS --out a.jpg', '--out expects a name that ends in .png, got a.jpg'),
    ('show CLS', "invalid choice: 'show'"),
]


@pytest.mark.parametrize(('command', 'message'), MISTAKES)
def test_mistakes_are_one_message(command, message, weights, monkeypatch, capsys):
    monkeypatch.chdir(weights)
    argv = [NAMES.get(word.lower(), word) for word in command.split()]
    code = exit_code(main, argv)
    errors = [part for part in capsys.readouterr().err.split('error: ')[1:] if message in part]
    assert code == 2 and len(errors) == 1


def test_without_captum_the_command_that_mends_it_is_told(weights, monkeypatch, capsys):
    monkeypatch.chdir(weights)
    monkeypatch.setitem(sys.modules, 'captum', None)  # as where it is not installed
    assert main(['gradcam', NAMES['cls'], 'cls.pth', 'a.png']) == 2
    assert 'captum is not installed: pip install captum' in capsys.readouterr().err
