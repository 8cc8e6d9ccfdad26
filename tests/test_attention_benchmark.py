import json
import sys

import pytest
import torch
from torch import nn

from mmlolvit.benchmark import attention
from mmlolvit.benchmark.attention import METHODS, MODES, exponent, main
from mmlolvit.benchmark.memory import bounded_memory, peak_memory
from mmlolvit.benchmark.report import environment, write_whole
from mmlolvit.errors import UserError

CPU = torch.device('cpu')
FORMS = [(method, form) for method, forms in METHODS.items() for form in forms]
linux = pytest.mark.skipif(
    sys.platform != 'linux', reason='the peak of memory is read from /proc, which only Linux has'
)


def softmax_attention(net: nn.Module, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Positions (N, C) over (M, C), one query at a time."""
    keys = t @ net.k.weight.T
    scores = [keys @ (net.q.weight @ position) / 16**0.5 for position in x]
    return torch.stack([score.exp() @ t / score.exp().sum() for score in scores])


def full(net, x):
    t = x.flatten(1).T
    return softmax_attention(net, t, t).T.reshape(x.shape)


def linear_sra(net, x):
    (_, h, w), t = x.shape, []
    for i in range(7):
        for j in range(7):
            rows = slice(i * h // 7, -(-(i + 1) * h // 7))
            columns = slice(j * w // 7, -(-(j + 1) * w // 7))
            t.append(x[:, rows, columns].mean(dim=(1, 2)))
    return softmax_attention(net, x.flatten(1).T, torch.stack(t)).T.reshape(x.shape)


def linear(net, x):
    def phi(a):
        return torch.where(a > 0, a + 1, a.exp())

    t = x.flatten(1).T
    weights = phi(t @ net.q.weight.T) @ phi(t @ net.k.weight.T).T  # (N, N)
    return (weights / weights.sum(dim=1, keepdim=True) @ t).T.reshape(x.shape)


def padded(x, side):
    c, h, w = x.shape
    y = x.new_zeros(c, -(-h // side) * side, -(-w // side) * side)
    y[:, :h, :w] = x
    return y


def windows(net, x):
    whole = padded(x, 7)
    y = torch.empty_like(whole)
    for i in range(0, whole.shape[1], 7):
        for j in range(0, whole.shape[2], 7):
            y[:, i : i + 7, j : j + 7] = full(net, whole[:, i : i + 7, j : j + 7])
    return y[:, : x.shape[1], : x.shape[2]]


def unfolded(net, x):
    whole = padded(x, 2)
    y = torch.empty_like(whole)
    for i in range(2):
        for j in range(2):
            y[:, i::2, j::2] = full(net, whole[:, i::2, j::2])
    return y[:, : x.shape[1], : x.shape[2]]


NAIVE = {
    'full SoftMax': full,
    'linear SRA': linear_sra,
    'linear attention': linear,
    'windows': windows,
    'unfolded': unfolded,
}


def test_every_rival_has_a_naive_form():
    assert {attention.OURS, *NAIVE} == set(METHODS)


@pytest.mark.parametrize('size', [(14, 14), (9, 16)])
@pytest.mark.parametrize(('method', 'form'), [key for key in FORMS if key[0] in NAIVE])
def test_rival_agrees_with_its_equation(method, form, size):
    torch.manual_seed(0)
    net, x = METHODS[method][form](24), torch.randn(2, 24, *size)
    with torch.no_grad():
        net.q.weight.mul_(4)  # scores that tell positions apart
        expected = torch.stack([NAIVE[method](net, image) for image in x])
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
        fast = net(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(fast, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('method', 'form'), FORMS)
def test_method_keeps_the_shape_and_gives_every_parameter_a_gradient(method, form):
    net, x = METHODS[method][form](16), torch.randn(2, 16, 5, 9, requires_grad=True)
    y = net(x)
    assert y.shape == x.shape and y.isfinite().all()
    inputs = [x, *net.parameters()]
    for gradient in torch.autograd.grad(y, inputs, torch.randn_like(y)):
        assert gradient.isfinite().all() and gradient.any()


def test_products_refuse_what_they_would_not_survive(monkeypatch):
    monkeypatch.setattr(attention, 'MOST_SCORES', 35**2)
    net = METHODS['full SoftMax']['products'](16)
    net(torch.randn(1, 16, 5, 7))
    with pytest.raises(MemoryError):
        net(torch.randn(1, 16, 6, 6))


def test_exponent_is_that_of_the_three_largest_maps():
    assert exponent({4: 7.0, 8: 8.0**3, 16: 16.0**3, 32: 32.0**3}) == pytest.approx(1.5)
    assert exponent({32: 1.0}) is None


@linux
@pytest.mark.parametrize('size', [20_000_000, 200_000_000])  # glibc keeps the smaller when freed
def test_peak_memory_sees_a_temporary_again_and_again(size):
    def run():
        torch.ones(size, dtype=torch.uint8)

    run()
    for _ in range(2):
        assert peak_memory(run, CPU) == pytest.approx(size, rel=0.1)


@linux
def test_peak_memory_does_not_count_what_was_there_before():
    kept = [torch.ones(100_000_000, dtype=torch.uint8)]
    torch.ones(100_000_000, dtype=torch.uint8)  # freed
    assert peak_memory(lambda: sum(range(1000)), CPU) < 2_000_000
    assert len(kept) == 1


@linux
def test_memory_that_the_machine_lacks_is_an_error():
    with bounded_memory(), pytest.raises(RuntimeError, match='memory'):
        torch.empty(2**37)
    with bounded_memory():
        torch.empty(2**20)


def test_report_says_where_it_was_made_and_names_no_machine():
    where = environment('cpu')
    assert where['cpu'] and where['cores'] > 0 and 'gpu' not in where
    assert where['versions']['torch'].startswith(torch.__version__.split('+')[0])
    assert json.loads(json.dumps(where)) == where


def test_files_appear_whole_or_not_at_all(tmp_path):
    write_whole(tmp_path / 'a', 'é')
    assert (tmp_path / 'a').read_text(encoding='utf-8') == 'é'
    (tmp_path / 'folder').mkdir()
    with pytest.raises(UserError, match='cannot write'):
        write_whole(tmp_path / 'folder', b'')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'folder']


@pytest.fixture
def quick(monkeypatch):
    """Short turns, and the number of threads left as it was."""
    monkeypatch.setattr(attention, 'TURN', 1e-4)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


TINY = ['--rounds', '1', '--channels', '16', '--threads', '1']


def test_writes_tables_figures_and_a_picture(tmp_path, capsys, quick):
    out = tmp_path / 'new' / 'attention'
    assert main(['--sides', '12', '6', *TINY, '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    written = out.with_suffix('.md').read_text()
    assert printed in written and str(tmp_path) not in written
    content = json.loads(out.with_suffix('.json').read_text())
    assert content['command'].startswith(
        'python -m mmlolvit.benchmark.attention --sides 6 12 --channels 16'
    )
    assert content['command'] in printed and content['environment']['date'] in printed
    assert content['settings']['rounds'] == 1
    assert len(content['exponents']) == 4 * len(METHODS)
    figures = content['figures']
    assert len(figures) == 2 * len(MODES) * len(FORMS)
    for f in figures:
        assert len(f['seconds']) == 1 and f['median'] == f['seconds'][0] > 0 and not f['error']
    best = [(f['side'], f['mode'], f['method']) for f in figures if f['best']]
    assert sorted(best) == sorted((s, m, k) for s in (6, 12) for m in MODES for k in METHODS)
    for method in METHODS:
        assert printed.count(f'\n| {method} |') == 4
    assert out.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    names = sorted(path.name for path in out.parent.iterdir())
    assert names == ['attention.json', 'attention.md', 'attention.png']


def test_a_method_that_fails_is_reported_and_the_rest_goes_on(monkeypatch, capsys, quick):
    class Hungry(nn.Module):
        def forward(self, x):
            return x + torch.empty(2**50)[0]

    methods = dict(windows=METHODS['windows'], unfolded=dict(fused=lambda channels: Hungry()))
    monkeypatch.setattr(attention, 'METHODS', methods)
    assert main(['--sides', '6', *TINY]) == 0
    printed = capsys.readouterr().out
    assert '| unfolded | - | - |' in printed
    assert '- unfolded, forward, 6 x 6: failed, ' in printed
    assert '| windows | - |' not in printed


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--sides', '0', '14'], '--sides expects at least 2'),
        (['--rounds', '0'], '--rounds expects at least 1'),
        (['--channels', '8'], '--channels expects at least 16'),
        (['--device', 'cuda'], 'PyTorch sees no GPU'),
    ],
)
def test_wrong_arguments_are_one_message(argv, message, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert main(['--out', str(tmp_path / 'file' / 'attention')]) == 2
    assert 'cannot write to the folder' in capsys.readouterr().err
