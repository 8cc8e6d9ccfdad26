import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmlolvit.models import FastWindowAttention


def spans(size: int, window) -> list[tuple[int, int]]:
    if isinstance(window, tuple):
        n = min(window[1], size)
        return [(i * size // n, -(-(i + 1) * size // n)) for i in range(n)]
    side = math.ceil(math.sqrt(size)) if window == 'adaptive' else min(window, size)
    return [(start, min(start + side, size)) for start in range(0, size, side)]


def naive(fwa: FastWindowAttention, x: Tensor) -> Tensor:
    """The equation of FWA, pixel by pixel and window by window, in float64."""
    fwa, x = fwa.double(), x.double()
    h, w = x.shape[2:]
    x = fwa.in_norm(x)
    windows = [(r, c) for r in spans(h, fwa.window) for c in spans(w, fwa.window)]
    t, a = [], []
    for (top, bottom), (left, right) in windows:
        patch = x[:, :, top:bottom, left:right].flatten(2)
        t.append(patch.mean(2) if fwa.aggregation == 'mean' else patch.amax(2))
        a.append((bottom - top) * (right - left) / (h * w))
    if isinstance(fwa.window, tuple):
        a = [1 / len(a)] * len(a)
    keys = [F.linear(i, fwa.k.weight.flatten(1)) for i in t]
    y = torch.zeros_like(x)
    for i in range(h):
        for j in range(w):
            q = F.linear(x[:, :, i, j], fwa.q.weight.flatten(1))
            s = 1 + torch.stack([(q * k).sum(1) for k in keys], 1) / math.sqrt(q.shape[1])
            if fwa.score == 'softmax':
                p = s.exp() * s.new_tensor(a)
                p = p / p.sum(1, keepdim=True)
            else:
                p = s.relu() * s.new_tensor(a)
                if fwa.score == 'relu_norm':
                    total = p.sum(1, keepdim=True)
                    p = torch.where(total > 0, p / total, torch.zeros_like(p))
            y[:, :, i, j] = sum(p[:, m : m + 1] * v for m, v in enumerate(t))
    return fwa.out_norm(y)


def make(**kwargs) -> FastWindowAttention:
    torch.manual_seed(0)
    fwa = FastWindowAttention(6, qk_channels=4, **kwargs).eval()
    for norm in (fwa.in_norm, fwa.out_norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(fwa.out_norm.weight)
    torch.nn.init.normal_(fwa.out_norm.bias)
    return fwa


@pytest.mark.parametrize('aggregation', ['mean', 'max'])
@pytest.mark.parametrize('score', ['relu', 'softmax', 'relu_norm'])
@pytest.mark.parametrize('window', ['adaptive', 1, 3, 100, ('grid', 3)])
@pytest.mark.parametrize('size', [(1, 1), (7, 7), (4, 10), (9, 1)])
def test_equals_the_equation(aggregation, score, window, size):
    fwa = make(aggregation=aggregation, score=score, window=window)
    x = torch.randn(2, 6, *size)
    with torch.no_grad():
        fast32, fast64 = fwa(x), fwa.double()(x.double())
        want = naive(fwa, x)
    torch.testing.assert_close(fast64, want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fast32.double(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_sums_in_fp32(dtype):
    fwa = make()
    seen = []
    attend = fwa.attend
    fwa.attend = lambda *args: seen.extend([*args[:3], attend(*args)]) or seen[-1]
    x = torch.randn(2, 6, 64, 64)
    with torch.no_grad():
        want = fwa(x)
        with torch.autocast('cpu', dtype=dtype):
            got = fwa(x)
    assert got.dtype == dtype
    assert {tensor.dtype for tensor in seen} == {torch.float32}
    assert (got - want).abs().max() < 0.05 * want.abs().max()


def test_runs_in_half_precision_as_a_whole():
    fwa, x = make(), torch.randn(2, 6, 16, 16)
    with torch.no_grad():
        want, got = fwa(x), fwa.bfloat16()(x.bfloat16())
    assert got.dtype == torch.bfloat16
    assert (got - want).abs().mean() < 0.05 * want.abs().mean()


@pytest.mark.parametrize('score', ['relu', 'softmax', 'relu_norm'])
def test_without_content_every_query_gets_the_mean_of_all_windows(score):
    fwa = make(score=score)
    torch.nn.init.zeros_(fwa.q.weight)
    fwa.out_norm = torch.nn.Identity()
    x = torch.randn(1, 6, 7, 9)
    t, area = fwa.aggregate(fwa.in_norm(x))
    mean = (t.flatten(2) * area).sum(2)
    torch.testing.assert_close(fwa(x), mean[:, :, None, None].expand_as(x))


def test_a_row_of_zero_scores_gives_zero_not_nan():
    fwa = make(score='relu_norm')
    q, k, v = -torch.ones(1, 4, 9), torch.ones(1, 4, 3), torch.randn(1, 6, 3)
    assert (fwa.attend(q, k, v, 1 / 3) == 0).all()


def test_one_checkpoint_loads_under_every_option():
    state = make().state_dict()
    for score in ('softmax', 'relu_norm'):
        for window in (1, 7, ('grid', 7)):
            make(score=score, window=window, aggregation='mean').load_state_dict(state)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(score='sigmoid'), "score must be one of .*'relu'.* got 'sigmoid'"),
        (dict(window=0), r"window must be .*\('grid', n\), got 0"),
        (dict(window=('grid', 'adaptive')), 'window must be'),
        (dict(window=('grid',)), 'window must be'),
        (dict(aggregation='sum'), "aggregation must be one of .* got 'sum'"),
    ],
)
def test_unknown_options_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FastWindowAttention(8, **kwargs)
