"""mmcv's wrappers over our stand-in operators, against plain references, and who wins when."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mmlolvit
from mmlolvit.errors import UserError
from mmlolvit.ops import compare, fallback, supplied

ROOT = Path(mmlolvit.__file__).parents[1]


@pytest.fixture(autouse=True)
def mmcv_over_fallback(monkeypatch):
    """mmcv's wrappers call the fallback even where mmcv is compiled."""
    for name in ('nms', 'roi_align', 'focal_loss'):
        wrapper = importlib.import_module(f'mmcv.ops.{name}')
        monkeypatch.setattr(wrapper, 'ext_module', fallback)


DEVICES = ['cpu', *['cuda'] * torch.cuda.is_available()]


def naive_nms(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> list[int]:
    boxes, threshold = boxes.numpy(), np.float32(threshold)
    area = (boxes[:, 2:] - boxes[:, :2] + offset).prod(1)
    keep = []
    for i in scores.sort(descending=True, stable=True).indices.tolist():
        top = np.maximum(boxes[i, :2], boxes[keep, :2])
        size = (np.minimum(boxes[i, 2:], boxes[keep, 2:]) - top + offset).clip(0)
        overlap = size.prod(1)
        with np.errstate(invalid='ignore'):  # two boxes without area
            iou = overlap / (area[i] + area[keep] - overlap)
        if not (iou > threshold).any():
            keep.append(i)
    return keep


def random_boxes(n: int, side: float = 20) -> Tensor:
    corner = torch.rand(n, 2) * side
    return torch.cat([corner, corner + torch.rand(n, 2) * 30], 1)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.5, 0.9])
def test_nms_matches_a_plain_loop(offset, threshold, device):
    from mmcv.ops import nms

    torch.manual_seed(0)
    boxes, scores = random_boxes(80).round(), torch.rand(80)
    kept = naive_nms(boxes, scores, threshold, offset)
    dets, indices = nms(boxes.to(device), scores.to(device), threshold, offset=offset)
    assert indices.tolist() == kept and indices.dtype == torch.int64
    assert torch.equal(dets.cpu(), torch.cat([boxes, scores[:, None]], 1)[kept])
    dets, indices = nms(boxes.numpy(), scores.numpy(), threshold, offset, 0.5, 5)
    assert indices.tolist() == [i for i in kept if scores[i] > 0.5][:5]


def test_nms_offset_counts_pixels():
    # 10 x 10 over 10 x 6 pixels is an IoU of 0.6; without the offset it is 9 x 5 / 81, under 0.56.
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 5]])
    scores = torch.tensor([0.9, 0.8])
    assert fallback.nms(boxes, scores, 0.58, 1).tolist() == [0]
    assert fallback.nms(boxes, scores, 0.58, 0).tolist() == [0, 1]
    assert fallback.nms(boxes, scores, 0.6, 1).tolist() == [0, 1]  # equal is not above


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_every_dtype_and_no_boxes(dtype):
    torch.manual_seed(0)
    boxes, scores = random_boxes(40).to(dtype), torch.rand(40)
    kept = naive_nms(boxes.float(), scores, 0.5, 0)
    assert fallback.nms(boxes, scores, 0.5, 0).tolist() == kept
    empty = fallback.nms(boxes[:0], scores[:0], 0.5, 0)
    assert empty.shape == (0,) and empty.dtype == torch.int64


@pytest.mark.parametrize('split_thr', [10000, 10])
def test_batched_nms_keeps_classes_apart(split_thr):
    from mmcv.ops import batched_nms

    torch.manual_seed(0)
    boxes, scores, labels = random_boxes(60), torch.rand(60), torch.randint(3, (60,))
    cfg = {'type': 'nms', 'iou_threshold': 0.3, 'split_thr': split_thr}
    dets, kept = batched_nms(boxes, scores, labels, cfg)
    expected = []
    for label in range(3):
        rows = (labels == label).nonzero()[:, 0]
        expected += rows[naive_nms(boxes[rows], scores[rows], 0.3, 0)].tolist()
    expected.sort(key=lambda i: -scores[i])
    assert kept.tolist() == expected and len(kept) < 50
    assert torch.equal(dets[:, :4], boxes[expected])


def naive_roi_align(input, rois, size, scale, ratio, aligned) -> Tensor:
    """Each bin is the mean of its sample points, each point bilinear between four pixels."""
    height, width = input.shape[2:]

    def pixel(image, y, x):
        if not (-1 <= y <= height and -1 <= x <= width):
            return torch.zeros_like(image[:, 0, 0])
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        v, u = y - top, x - left
        upper = (1 - u) * image[:, top, left] + u * image[:, top, right]
        lower = (1 - u) * image[:, bottom, left] + u * image[:, bottom, right]
        return (1 - v) * upper + v * lower

    out = input.new_zeros(len(rois), input.shape[1], *size)
    for k, (index, *box) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * scale - 0.5 * aligned for c in box)
        w, h = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        bin_h, bin_w = h / size[0], w / size[1]
        n_y = ratio or int(np.ceil(bin_h))
        n_x = ratio or int(np.ceil(bin_w))
        for i, j in np.ndindex(*size):
            points = [
                pixel(
                    input[int(index)],
                    y1 + (i + (a + 0.5) / n_y) * bin_h,
                    x1 + (j + (b + 0.5) / n_x) * bin_w,
                )
                for a in range(n_y)
                for b in range(n_x)
            ]
            out[k, :, i, j] = sum(points) / max(len(points), 1)
    return out


def roi_input(dtype=torch.float64):
    torch.manual_seed(0)
    rois = torch.tensor(
        # inside, over two edges, thin, beyond the other edges
        [[0, 3, 2, 17, 21], [1, -6, -4, 11, 9], [1, 8, 5, 8.5, 20], [0, 20, 25, 40, 33]]
    )
    return torch.randn(2, 3, 13, 11, dtype=dtype), rois.to(dtype)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 1, 2])
def test_roi_align_matches_plain_bilinear_sampling(aligned, ratio, device):
    from mmcv.ops import roi_align

    x, rois = roi_input()
    expected = naive_roi_align(x, rois, (3, 2), 0.5, ratio, aligned).to(device)
    x, rois = x.to(device), rois.to(device)
    assert torch.allclose(roi_align(x, rois, (3, 2), 0.5, ratio, 'avg', aligned), expected)
    strided = x.to(memory_format=torch.channels_last)
    assert torch.allclose(roi_align(strided, rois, (3, 2), 0.5, ratio, 'avg', aligned), expected)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_gradient(aligned, ratio):
    from mmcv.ops import roi_align

    x, rois = roi_input()
    x = x[:, :2].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: roi_align(x, rois, (2, 3), 0.5, ratio, 'avg', aligned), (x,), nondet_tol=1e-12
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_in_half_precision(dtype):
    from mmcv.ops import RoIAlign

    x, rois = roi_input(torch.float32)
    exact = RoIAlign(4, 0.5)(x.to(dtype).float(), rois)
    x = x.to(dtype).requires_grad_()
    y = RoIAlign(4, 0.5)(x, rois)  # the boxes keep their precision
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    assert torch.equal(y, exact.to(dtype))
    assert RoIAlign(4, 0.5)(x, rois[:0]).shape == (0, 3, 4, 4)


def test_roi_align_by_maximum_is_refused():
    from mmcv.ops import roi_align

    x, rois = roi_input()
    with pytest.raises(fallback.MissingOpError, match=r"pool_mode='max'.*--no-build-isolation"):
        roi_align(x, rois, 2, 1.0, 0, 'max')


def naive_focal_loss(input, target, gamma, alpha, weight=None) -> Tensor:
    p = input.sigmoid()
    rows = []
    for i, t in enumerate(target.tolist()):
        hit = torch.arange(input.shape[1], device=input.device) == t
        positive = alpha * (1 - p[i]) ** gamma * p[i].log()
        negative = (1 - alpha) * p[i] ** gamma * (1 - p[i]).log()
        factor = 1 if weight is None or not hit.any() else weight[t]
        rows.append(-factor * torch.where(hit, positive, negative))
    return torch.stack(rows)


# Every class, and both ways to say background among five classes.
TARGET = torch.tensor([0, 1, 2, 3, 4, 5, -1])


@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (0.0, 0.5), (1.5, 0.7)])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('device', DEVICES)
def test_focal_loss_matches_the_formula(gamma, alpha, weighted, device):
    from mmcv.ops import sigmoid_focal_loss

    torch.manual_seed(0)
    target = TARGET.to(device)
    x = (torch.randn(7, 5, dtype=torch.float64, device=device) * 3).requires_grad_()
    weight = torch.rand(5, dtype=torch.float64, device=device) if weighted else None
    expected = naive_focal_loss(x, target, gamma, alpha, weight)
    loss = sigmoid_focal_loss(x, target, gamma, alpha, weight, 'none')
    assert torch.allclose(loss, expected)
    for reduction, total in (('sum', expected.sum()), ('mean', expected.sum() / 7)):
        reduced = sigmoid_focal_loss(x, target, gamma, alpha, weight, reduction)
        assert torch.allclose(reduced, total)
        gradients = [torch.autograd.grad(y, x, retain_graph=True)[0] for y in (reduced, total)]
        assert torch.allclose(*gradients)
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal_loss(x, target, gamma, alpha, weight, 'none'), (x,)
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_focal_loss_stays_finite_and_keeps_its_dtype(dtype):
    from mmcv.ops import sigmoid_focal_loss

    x = torch.tensor([[200.0, -200.0, 0.5]] * 7, dtype=dtype).requires_grad_()
    target = TARGET.clamp(max=3)
    loss = sigmoid_focal_loss(x, target, 2.0, 0.25, None, 'none')
    loss.sum().backward()
    assert loss.dtype == x.grad.dtype == dtype
    assert loss.isfinite().all() and x.grad.isfinite().all()
    assert loss[1, 1] == 0.25 * 200 and x.grad[1, 1] == -0.25
    assert sigmoid_focal_loss(x[:0], target[:0], 2.0, 0.25, None, 'sum') == 0


def test_focal_loss_agrees_with_mmdet():
    from mmcv.ops import sigmoid_focal_loss
    from mmdet.models.losses import FocalLoss

    torch.manual_seed(0)
    x = torch.randn(7, 5) * 4
    target = TARGET.clamp(min=0)
    loss = sigmoid_focal_loss(x, target, 2.0, 0.25, None, 'none')
    assert torch.allclose(loss, FocalLoss(reduction='none')(x, target), atol=1e-6)


def test_missing_op_exists_and_says_how_to_get_it():
    op = fallback.missing_op('deform_conv_forward')
    assert op.__name__ == 'deform_conv_forward'
    with pytest.raises(
        fallback.MissingOpError, match=r'deform_conv_forward: .*pip install'
    ) as info:
        op(torch.zeros(1), kernel=3)
    assert isinstance(info.value, UserError)
    with pytest.raises(AttributeError):
        fallback.missing_op('__path__')


def test_torchvision_that_does_not_load_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    with pytest.raises(fallback.MissingOpError, match=r'nms: .*torchvision.*mmlolvit\.doctor'):
        fallback.nms(torch.zeros(1, 4), torch.zeros(1), 0.5, 0)


def test_comparison_with_a_compiled_mmcv(capsys):
    assert compare.main([]) == (2 if supplied() else 0)
    assert ('no compiled operators' in capsys.readouterr().err) == supplied()


class OffByALittle:
    """Ours with another RoIAlign, and with no focal loss."""

    nms = staticmethod(fallback.nms)
    roi_align_backward = staticmethod(fallback.roi_align_backward)

    def roi_align_forward(self, input, rois, output, *args, **kwargs):
        fallback.roi_align_forward(input, rois, output, *args, **kwargs)
        output += 0.1

    def __getattr__(self, name):
        raise RuntimeError(f'{name}: not for this device\nand a stack')


def test_comparison_tells_what_differs_from_what_is_not_there(capsys):
    assert compare.compare(fallback)
    capsys.readouterr()
    assert not compare.compare(OffByALittle())
    rows = capsys.readouterr().out.splitlines()
    [row] = [row for row in rows if re.match('. nms, offset=1 . cpu . float32 ', row)]
    assert row.endswith('| 0.0e+00 | 1e-05 |')
    [row] = [row for row in rows if 'focal_loss, weighted=True | cpu | float32 ' in row]
    assert row.endswith('| mmcv: sigmoid_focal_loss_forward: not for this device | |')


def run_python(code: str, path: Path | None = None) -> str:
    """What ``code`` prints in a new interpreter that finds packages in ``path`` first."""
    env = os.environ | {'PYTHONPATH': os.pathsep.join(map(str, filter(None, (path, ROOT))))}
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fake_mmcv(folder: Path, compiled: bool) -> Path:
    (folder / 'mmcv').mkdir()
    (folder / 'mmcv/__init__.py').touch()
    if compiled:
        (folder / 'mmcv/_ext.py').write_text("nms = 'compiled'\n")
    return folder


def test_import_is_light():
    code = "import sys, mmlolvit; print({'torch', 'mmcv', 'torchvision'} & set(sys.modules))"
    assert run_python(code) == 'set()'


def test_compiled_mmcv_wins(tmp_path):
    code = """
import mmlolvit.ops
print(mmlolvit.ops.supplied())
from mmcv import _ext
print(_ext.nms, hasattr(_ext, 'softnms'), mmlolvit.ops.supplied())
"""
    folder = fake_mmcv(tmp_path, compiled=True)
    assert run_python(code, folder).split() == ['False', 'compiled', 'False', 'False']


def test_compiled_mmcv_that_does_not_load_is_not_hidden(tmp_path):
    folder = fake_mmcv(tmp_path, compiled=True)
    (folder / 'mmcv/_ext.py').write_text("raise ImportError('undefined symbol')\n")
    code = """
import mmlolvit
try:
    import mmcv._ext
except ImportError as error:
    print(error)
"""
    assert run_python(code, folder) == 'undefined symbol'


def test_supplied_where_mmcv_is_not_compiled(tmp_path):
    code = """
import mmlolvit, sys
print(mmlolvit.ops.supplied(), 'torch' in sys.modules)
from mmcv import _ext
print(mmlolvit.ops.supplied(), callable(_ext.softnms), hasattr(_ext, '__version__'))
"""
    printed = run_python(code, fake_mmcv(tmp_path, compiled=False)).split()
    assert printed == ['True', 'False', 'True', 'True', 'False']


def test_nothing_else_is_answered():
    [finder] = [f for f in sys.meta_path if isinstance(f, mmlolvit.ops.FallbackFinder)]
    for name in ('mmcv', 'mmcv._extra', 'mmcv.ops._ext', '_ext'):
        assert finder.find_spec(name, None) is None


def test_not_supplied_without_mmcv():
    code = """
import mmlolvit, sys
sys.modules['mmcv'] = None
print(mmlolvit.ops.supplied())
"""
    assert run_python(code) == 'False'


def test_a_checkout_in_the_current_folder_wins_over_the_installed_package(tmp_path):
    (tmp_path / 'mmlolvit').mkdir()
    (tmp_path / 'mmlolvit/__init__.py').write_text("print('this one')\n")
    code = [sys.executable, '-c', 'import mmlolvit']
    done = subprocess.run(code, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'this one'


@pytest.mark.slow
def test_all_three_libraries_import():
    code = """
import mmdet.models, mmpretrain.models, mmseg.models
from mmcv.utils.env import collect_env
from mmdet.models.dense_heads import base_dense_head
print(base_dense_head.batched_nms.__name__, bool(collect_env()['MMCV Compiler']))
"""
    assert run_python(code).split()[-2:] == ['batched_nms', 'True']
