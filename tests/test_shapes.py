"""Images, arches and precisions of any kind: a right answer, or a clear refusal."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import mmlolvit
from mmlolvit.cli.export_onnx import main as export
from mmlolvit.deploy.graphs import GRAPHS, Normalized
from mmlolvit.deploy.onnx import open_model, run
from mmlolvit.errors import UserError
from mmlolvit.models import GLFFBlock, LOLViT
from mmlolvit.models.lolvit import ARCHS

from .helpers import inside, threads
from .test_export import exports, save_random

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]
SOME = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
MORE = settings(SOME, max_examples=50)
SIDES = st.integers(1, 400)
NAMES = dict(
    cls='lolvit_x_digits',
    det='retinanet_lolvit_x_digits',
    seg='fpn_lolvit_x_digits',
)


@st.composite
def arches(draw):
    """A name, or a dict of two to four stages that grow, by odd numbers too in one of four."""
    if draw(st.booleans()):
        return draw(st.sampled_from(sorted(ARCHS)))
    number = draw(st.integers(2, 4))
    unit = draw(st.sampled_from([2, 2, 2, 1]))
    steps = draw(st.lists(st.integers(1, 24 // unit), min_size=number, max_size=number))
    stem = draw(st.integers(1, 16 // unit))
    return dict(
        stem=unit * stem,
        channels=tuple(unit * (stem + step) for step in itertools.accumulate(steps)),
        depths=tuple(draw(st.lists(st.integers(0, 2), min_size=number, max_size=number))),
        blocks=tuple(
            draw(st.lists(st.sampled_from(['ghost', 'glff']), min_size=number, max_size=number))
        ),
        global_share=draw(st.sampled_from([0, 0.125, 0.5, 1])),
    )


def settled(net: LOLViT) -> LOLViT:
    """A net whose norms know what they get, as after training."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches, of which there is one
    net(torch.randn(4, net.in_channels, 64, 64))
    return net.eval()


@settings(SOME, max_examples=200)
@given(st.data(), arches(), st.integers(1, 4), st.integers(1, 4), SIDES, SIDES)
def test_the_backbone_answers_on_any_image(data, arch, batch, in_channels, height, width):
    stages = 4 if isinstance(arch, str) else len(arch['depths'])
    wanted = data.draw(st.sets(st.integers(0, stages - 1), min_size=1))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    half = data.draw(st.sampled_from([None, torch.bfloat16, torch.float16]))
    form = data.draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    if batch * height * width > 200_000:
        batch = 1
    torch.manual_seed(0)
    options = dict(out_indices=tuple(wanted), in_channels=in_channels)
    try:
        net = settled(LOLViT(arch, **options)).to(dtype)
    except ValueError as error:
        assert 'needs an even out_channels' in str(error)
        assert any(channels % 2 for channels in arch['channels'])
        return
    x = torch.randn(batch, in_channels, height, width).to(dtype)
    if (dtype, half) == (torch.bfloat16, torch.float16):  # PyTorch's batch norm takes no two halves
        with torch.autocast('cpu', half), pytest.raises(RuntimeError, match='mixed dtype'):
            net(x)
        return
    with torch.no_grad():
        want = net.float()(x.float())
        # A random net of many attentions is beyond any type's range, by a cube in each.
        assume(all(out.abs().max() < 1000 for out in want))
        net.to(dtype)
        with torch.autocast('cpu', half or torch.bfloat16, enabled=half is not None):
            outs = net.to(memory_format=form)(x.to(memory_format=form))
    assert len(outs) == len(wanted)
    exact = dtype in (torch.float32, torch.float64) and half is None
    for out, reference, channels, stride in zip(
        outs, want, net.out_channels, net.out_strides, strict=True
    ):
        sides = math.ceil(height / stride), math.ceil(width / stride)
        assert out.shape == (batch, channels, *sides)
        assert out.isfinite().all()
        far = (out.float() - reference).norm() / reference.norm().clamp(min=1e-3)
        assert far < (1e-3 if exact else 0.3)


@SOME
@given(st.integers(1, 4), SIDES, SIDES)
def test_the_backbone_learns_from_any_image_or_says_why_not(batch, height, width):
    torch.manual_seed(0)
    net = LOLViT('xx').train()
    x = torch.randn(batch, 3, height, width)
    if batch == 1 and max(height, width) <= 32:
        with pytest.raises(ValueError, match='BatchNorm cannot train on one value per channel'):
            net(x)
        return
    net(x)[0].float().square().mean().backward()
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize('half', [torch.bfloat16, torch.float16], ids=['bf16', 'fp16'])
@pytest.mark.parametrize('sides', [(1, 1), (1, 512), (7, 31), (64, 64), (512, 512)])
@pytest.mark.parametrize('training', [False, True], ids=['eval', 'train'])
def test_the_block_stays_finite_in_half_precision(half, sides, training):
    """For inputs of unit variance, and some of a magnitude of 30, as its docstring says."""
    torch.manual_seed(0)
    block = GLFFBlock(16, global_share=0.5).train(training)
    x = torch.randn(2 if training else 1, 16, *sides)
    rare = torch.where(torch.rand_like(x) < 1e-3, 30 * x.sign(), x)
    with torch.no_grad(), torch.autocast('cpu', half):
        assert block(rare).isfinite().all()
        assert block(x * 30 / x.abs().max()).isfinite().all()


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with a checkpoint of random weights of each task."""
    with inside(tmp_path_factory.mktemp('shapes')) as folder, threads(1):
        for task, name in NAMES.items():
            Path(save_random(f'{task}/{name}')).rename(f'{task}.pth')
        yield folder


@pytest.fixture(scope='module')
def predictors(workspace):
    return {task: mmlolvit.load(name, f'{task}.pth') for task, name in NAMES.items()}


@pytest.mark.parametrize('task', NAMES)
@MORE
@given(SIDES, SIDES, st.integers(0, 255))
@example(1, 321, 0)
def test_whole_models_answer_on_any_image(predictors, task, height, width, grey):
    image = np.full((height, width, 3), grey, np.uint8)
    try:
        answer = predictors[task](image)
    except UserError as error:  # the short side would shrink to nothing
        assert f'an image of {width} x {height} px cannot be prepared' in str(error)
        assert max(height, width) / min(height, width) > 100
        return
    if task == 'cls':
        assert 0 <= answer['label'] < 10 and answer['scores'].sum() == pytest.approx(1, abs=1e-4)
    elif task == 'det':
        boxes = answer['boxes']
        assert np.isfinite(boxes).all() and (boxes >= -1e-3).all()
        assert (boxes[:, 2::2] <= width + 1e-3).all() and (boxes[:, 3::2] <= height + 1e-3).all()
    else:
        assert answer['map'].shape == (height, width)


@pytest.fixture(scope='module', params=NAMES)
def exported(request, predictors):
    """A model's graph, and the file of it for any number of images of any size."""
    task = request.param
    argv = [NAMES[task], f'{task}.pth', '--out', f'{task}.onnx', '--dynamic', 'batch', 'size']
    assert export(argv) == 0
    model = predictors[task].model
    graph = GRAPHS[predictors[task].cfg.default_scope](model)
    return Normalized(graph, model.data_preprocessor), open_model(f'{task}.onnx')


@exports
@MORE
@given(st.integers(1, 3), st.integers(1, 200), st.integers(1, 200))
def test_an_exported_model_answers_as_pytorch_on_any_image(exported, batch, height, width):
    net, session = exported
    rng = np.random.default_rng(height * 1000 + width)
    images = torch.from_numpy(rng.integers(256, size=(batch, 3, height, width))).float()
    with torch.no_grad():
        want = net(images)
    got = run(session, images)
    assert [tuple(a.shape) for a in got] == [tuple(b.shape) for b in want]
    most = 0.03 if net.inner.unit == 'boxes' else 0.01  # a box of 200 may lose to its equal
    assert net.inner.difference(got, want) < most
