"""FWA beside the attention that it means to replace: time and peak memory as the map grows.

Every method mixes the positions of a map, (B, C, H, W) -> (B, C, H, W), as FWA does: one head, Q
and K of d = 16 channels by 1 x 1 projections, and the map itself as V. No W_v and no projection
after it on either side, for mixing commutes with them: the layer that reads Y has room for both.
Only the mixing differs, but for FWA's norms, which are measured with it.

Each method runs in two forms, of which the faster counts: FWA in either memory layout, SoftMax
attention as products and by PyTorch's fused kernel, in channels-last, where tokens need no copy.
The fused kernel of the CPU asks for as many channels in Q and K as in V; zeros fill them up, which
changes no score.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import math
import shlex
import statistics
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..cli.common import check_writable, exits, require_at_least
from ..models import FastWindowAttention
from .memory import bounded_memory, peak_memory
from .report import describe, environment, write_whole

QK_CHANNELS = 16
MOST_SCORES = 2**28  # 1 GiB of them; beyond, only the fused kernel runs
TURN = 0.02  # seconds that a turn takes at least; quicker methods run several times in it


class SoftMaxAttention(nn.Module):
    """Full attention, every position over all positions: softmax(Q K^T / sqrt(d)) V.

    Letters: N queries, M keys, d channels of both, C of the map. The scores are N x M.

    Args:
        channels (int): C.
        fused (bool): By PyTorch's fused kernel, which never holds all scores.
    """

    def __init__(self, channels: int, fused: bool = True):
        super().__init__()
        self.fused = fused
        self.scale = QK_CHANNELS**-0.5
        self.q = nn.Linear(channels, QK_CHANNELS, bias=False)
        self.k = nn.Linear(channels, QK_CHANNELS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C), no copy in channels-last
        return self.mix(t, t).transpose(1, 2).reshape(x.shape)

    def mix(self, x: Tensor, t: Tensor) -> Tensor:
        """Queries from (B, N, C), keys and values from (B, M, C) -> (B, N, C).

        Raises:
            MemoryError: On more than ``MOST_SCORES`` scores, unless fused.
        """
        q, k = self.q(x), self.k(t)
        if self.fused:
            zeros = 0, t.shape[2] - QK_CHANNELS
            q, k, v = F.pad(q, zeros)[:, None], F.pad(k, zeros)[:, None], t[:, None]
            return F.scaled_dot_product_attention(q, k, v, scale=self.scale)[:, 0]
        if q.shape[0] * q.shape[1] * k.shape[1] > MOST_SCORES:
            raise MemoryError(f'more than {MOST_SCORES} scores')
        return (self.scale * q @ k.transpose(1, 2)).softmax(dim=-1) @ t


class LinearSRA(SoftMaxAttention):
    """Keys and values from a grid of 7 x 7 averages: PVTv2's linear SRA (Wang et al., 2022).

    Without the convolution, norm and GELU that it has after the averages.
    """

    grid = 7

    def forward(self, x: Tensor) -> Tensor:
        grid = min(self.grid, x.shape[2]), min(self.grid, x.shape[3])
        t = F.adaptive_avg_pool2d(x, grid)
        x_tokens, t = (i.flatten(2).transpose(1, 2) for i in (x, t))  # (B, N, C), (B, M, C)
        return self.mix(x_tokens, t).transpose(1, 2).reshape(x.shape)


class LinearAttention(SoftMaxAttention):
    """phi(Q) (phi(K)^T V), over its row sums, phi = elu + 1 (Katharopoulos et al., 2020)."""

    def mix(self, x: Tensor, t: Tensor) -> Tensor:
        q, k = F.elu(self.q(x)) + 1, F.elu(self.k(t)) + 1
        q = q / (q @ k.sum(dim=1)[..., None])  # (B, N, d) / (B, N, 1)
        return q @ (k.transpose(1, 2) @ t)


class TiledAttention(SoftMaxAttention):
    """Attention inside groups of positions, from tiles of ``side`` x ``side``.

    Zeros fill up the last tiles and are attended to, as Swin does. ``order`` moves the axes of the
    tiled map (B, rows, side, columns, side, C) so that those of a group come last.
    """

    side: int
    order: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        (h, w), s = x.shape[2:], self.side
        x = F.pad(x, (0, -w % s, 0, -h % s))
        b, c, rows, columns = x.shape[0], x.shape[1], x.shape[2] // s, x.shape[3] // s
        t = x.permute(0, 2, 3, 1).reshape(b, rows, s, columns, s, c).permute(self.order)
        groups = t.reshape(-1, t.shape[3] * t.shape[4], c)
        y = self.mix(groups, groups).reshape(t.shape)
        y = y.permute([self.order.index(i) for i in range(6)]).reshape(b, rows * s, columns * s, c)
        return y[:, :h, :w].permute(0, 3, 1, 2)


class WindowAttention(TiledAttention):
    """A group is a window of 7 x 7 positions: Swin's W-MSA (Liu et al., 2021), without shift."""

    side = 7
    order = (0, 1, 3, 2, 4, 5)


class UnfoldedAttention(TiledAttention):
    """A group is one position of every patch of 2 x 2: MobileViT (Mehta and Rastegari, 2022)."""

    side = 2
    order = (0, 2, 4, 1, 3, 5)


OURS = 'FWA'


def both(attention: type[SoftMaxAttention]) -> dict[str, Callable[[int], nn.Module]]:
    """The forms of a SoftMax attention."""
    return dict(fused=attention, products=partial(attention, fused=False))


fwa = partial(FastWindowAttention, qk_channels=QK_CHANNELS)
# Per method its forms, which agree: C -> module.
METHODS = {
    OURS: dict(contiguous=fwa, channels_last=fwa),
    'full SoftMax': both(SoftMaxAttention),
    'linear SRA': both(LinearSRA),
    'linear attention': dict(products=LinearAttention),
    'windows': both(WindowAttention),
    'unfolded': both(UnfoldedAttention),
}
MODES = ('forward', 'forward + backward')


@dataclass
class Figures:
    """What was measured of one form of a method on one map.

    Attributes:
        side: H = W of the map, in pixels.
        best: Whether it is the fastest form of its method there.
        seconds: Of each round.
        median: Of the seconds; None where it failed.
        peak: Bytes at most, beyond the input, the parameters and the gradient that comes in;
            None where it failed or cannot be told.
        error: Why it failed.
    """

    side: int
    mode: str
    method: str
    form: str
    best: bool = False
    seconds: list[float] = field(default_factory=list)
    median: float | None = None
    peak: int | None = None
    error: str | None = None


def prepare(figures: Figures, args: argparse.Namespace) -> Callable[[], object]:
    """A call of the method; its backward goes to the map and to the parameters."""
    torch.manual_seed(0)
    contiguous = figures.form == 'contiguous'
    to = dict(
        device=args.device,
        memory_format=torch.contiguous_format if contiguous else torch.channels_last,
    )
    net = METHODS[figures.method][figures.form](args.channels).to(**to)
    x = torch.randn(args.batch, args.channels, figures.side, figures.side).to(**to)
    if figures.mode == 'forward':
        net.eval()
        return torch.inference_mode()(lambda: net(x))
    grad = torch.randn_like(x)
    inputs = [x.requires_grad_(), *net.parameters()]
    return lambda: torch.autograd.grad(net(x), inputs, grad)


def measure(cells: list[Figures], args: argparse.Namespace, bar: tqdm) -> None:
    """Fill in the figures of all forms at one side, in rounds that take them in turn.

    After one round at least, a form whose turns have taken ``args.budget`` seconds leaves. So does
    one that fails.
    """
    device = torch.device(args.device)

    def clock() -> float:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def seconds(run: Callable, repeats: int = 1) -> float:
        start = clock()
        for _ in range(repeats):
            run()
        return (clock() - start) / repeats

    runs, repeats = {}, {}
    for turn in range(args.rounds + 1):  # 0 warms up
        for i, figures in enumerate(cells):
            bar.set_description(f'{figures.side} x {figures.side}, {figures.mode}', refresh=False)
            bar.set_postfix_str(figures.method, refresh=False)
            bar.update()
            try:
                if turn == 0:
                    runs[i] = run = prepare(figures, args)
                    once = seconds(run)
                    figures.peak = peak_memory(run, device)
                    if once < 1:
                        once = seconds(run)
                    repeats[i] = math.ceil(TURN / once)
                elif not figures.error and sum(figures.seconds) * repeats[i] < args.budget:
                    if repeats[i] > 1:
                        runs[i]()  # until here the caches are those of the method before
                    figures.seconds.append(seconds(runs[i], repeats[i]))
            except (RuntimeError, MemoryError) as error:
                figures.error = (str(error) or type(error).__name__).splitlines()[0]
                figures.seconds, figures.peak = [], None
                runs.pop(i, None)
    for figures in cells:
        if figures.seconds:
            figures.median = statistics.median(figures.seconds)


def compare(args: argparse.Namespace) -> list[Figures]:
    """Measure every form of every method, in both modes, at every side."""
    forms = [(method, form) for method, builds in METHODS.items() for form in builds]
    found = []
    turns = len(args.sides) * len(MODES) * len(forms) * (args.rounds + 1)
    # CUDA reserves addresses by far more than there is memory.
    bounds = contextlib.nullcontext if args.device == 'cuda' else bounded_memory
    with bounds(), tqdm(total=turns, disable=None) as bar:
        for side in args.sides:
            for mode in MODES:
                cells = [Figures(side, mode, *form) for form in forms]
                measure(cells, args, bar)
                for method in METHODS:
                    able = [f for f in cells if f.method == method and f.median is not None]
                    if able:
                        min(able, key=lambda f: f.median).best = True
                found += cells
    return found


# What the tables and the picture show: field of Figures -> title, unit, units per field's unit.
QUANTITIES = {'median': ('Time', 'ms', 1e3), 'peak': ('Peak memory', 'MB', 1e-6)}


def series(found: list[Figures], quantity: str, mode: str) -> dict[str, dict[int, float]]:
    """Per method {side: value} of its best forms, in the quantity's unit; no entry, no value."""
    values = {method: {} for method in METHODS}
    for f in found:
        value = getattr(f, quantity)
        if f.best and f.mode == mode and value is not None:
            values[f.method][f.side] = value * QUANTITIES[quantity][2]
    return values


def exponent(values: dict[int, float]) -> float | None:
    """e of N^e, N = side^2: least squares on logarithms over the three largest sides."""
    points = [(2 * math.log(side), math.log(v)) for side, v in sorted(values.items()) if v > 0]
    if len(points) < 2:
        return None
    return statistics.linear_regression(*zip(*points[-3:], strict=True)).slope


def exponents(found: list[Figures]) -> list[dict]:
    """All of them, for the JSON file."""
    return [
        dict(quantity=quantity, mode=mode, method=method, exponent=exponent(values))
        for quantity in QUANTITIES
        for mode in MODES
        for method, values in series(found, quantity, mode).items()
    ]


def command(args: argparse.Namespace) -> str:
    """What measures this again; where it writes is left out."""
    words = ['python', '-m', 'mmlolvit.benchmark.attention']
    for name, value in vars(args).items():
        if name != 'out':
            words += [f'--{name}', *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def explain(args: argparse.Namespace) -> str:
    """What the tables and the picture show."""
    return (
        f'Batch {args.batch}, {args.channels} channels, Q and K of {QK_CHANNELS}, fp32; FWA with '
        'its norms. Each method in the faster of its forms, whose memory is shown, beyond the '
        'input; a change of form bends a line. Exponents: of N = H x W, least squares on '
        'logarithms over the three largest maps.'
    )


def digits(value: float) -> str:
    """Three digits, but at most three after the point."""
    after = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f'{value:.{min(max(after, 0), 3)}f}'


def table(found: list[Figures], quantity: str, mode: str) -> str:
    """Markdown, a row per method; times with the least and the most of their rounds."""
    title, unit, factor = QUANTITIES[quantity]
    sides = sorted({f.side for f in found})
    heads = [f'{title}, {mode} ({unit})', *(f'{side} x {side}' for side in sides), 'exponent']
    rows = [heads, ['---'] * len(heads)]
    spread = {}
    for f in found:
        if f.best and f.mode == mode and quantity == 'median':
            low, high = digits(min(f.seconds) * factor), digits(max(f.seconds) * factor)
            spread[f.method, f.side] = f' ({low}-{high})'
    for method, values in series(found, quantity, mode).items():
        cells = [
            digits(values[side]) + spread.get((method, side), '') if side in values else '-'
            for side in sides
        ]
        e = exponent(values)
        rows.append([method, *cells, '-' if e is None else f'{e:.2f}'])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def remarks(found: list[Figures], rounds: int) -> list[str]:
    """Which form counts where, what failed in every form, and what had fewer rounds."""
    forms, cells = {}, {}
    for f in found:
        if f.best and len(METHODS[f.method]) > 1:
            sides = forms.setdefault(f'{f.method}, {f.mode}', {}).setdefault(f.form, [])
            sides.append(str(f.side))
        cells.setdefault(f'{f.method}, {f.mode}, {f.side} x {f.side}', []).append(f)
    lines = []
    for row, chosen in forms.items():
        each = (f'{form} at {", ".join(sides)}' for form, sides in chosen.items())
        lines.append(f'{row}: {"; ".join(each)}')
    for cell, tried in cells.items():
        best = next((f for f in tried if f.best), None)
        if best is None:
            lines.append(f'{cell}: failed, {tried[0].error}')
        elif len(best.seconds) < rounds:
            lines.append(f'{cell}: rounds measured: {len(best.seconds)}')
    return lines


def report(found: list[Figures], args: argparse.Namespace, where: dict) -> str:
    """The whole of it in Markdown."""
    about = f'{explain(args)} Times are medians of {args.rounds} rounds (least-most).'
    parts = [f'`{command(args)}`', describe(where), about]
    parts += [table(found, quantity, mode) for quantity in QUANTITIES for mode in MODES]
    parts += ['\n'.join(f'- {line}' for line in remarks(found, args.rounds))]
    return '\n\n'.join(part for part in parts if part) + '\n'


# Okabe and Ito's colours, which colour-blind readers tell apart too.
STYLES = {
    OURS: dict(color='#D55E00', marker='o', linewidth=3, markersize=8, zorder=3),
    'full SoftMax': dict(color='#000000', marker='s', linestyle='--'),
    'linear SRA': dict(color='#0072B2', marker='^'),
    'linear attention': dict(color='#009E73', marker='v', linestyle='-.'),
    'windows': dict(color='#CC79A7', marker='D'),
    'unfolded': dict(color='#56B4E9', marker='P', linestyle='--'),
}


def draw(found: list[Figures], args: argparse.Namespace, where: dict) -> bytes:
    """The tables as a PNG, log-log over the positions of the map."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(14, 9), layout='constrained')
    figure.suptitle('Attention as the map grows', fontsize=16)
    caption = textwrap.fill(f'{explain(args)} {describe(where)}', 170)
    figure.supxlabel(caption, fontsize=9)
    sides = sorted({f.side for f in found})
    apart = (sides[-1] / sides[0]) ** 0.16
    marked = sides[-1:]  # those that have room for a label
    for side in sides[-2::-1]:
        if marked[0] / side >= apart:
            marked.insert(0, side)
    axes = figure.subplots(2, 2)
    panels = [(quantity, mode) for quantity in QUANTITIES for mode in MODES]
    for axis, (quantity, mode) in zip(axes.flat, panels, strict=True):
        title, unit, _ = QUANTITIES[quantity]
        lines = series(found, quantity, mode)
        # The legend has the order of the lines' right ends.
        for method in sorted(lines, key=lambda m: max(lines[m].items(), default=()), reverse=True):
            values = {side: value for side, value in lines[method].items() if value > 0}
            if not values:
                continue
            e = exponent(values)
            label = method if e is None else f'{method}  $N^{{{e:.2f}}}$'
            positions = [side**2 for side in values]
            axis.plot(positions, list(values.values()), label=label, **STYLES[method])
        axis.set(xscale='log', yscale='log', title=f'{title}, {mode}', ylabel=unit)
        axis.set_xlabel('positions N = H x W')
        axis.set_xticks([side**2 for side in marked], [f'{side} x {side}' for side in marked])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(loc='upper left', bbox_to_anchor=(1, 1), frameon=False, fontsize=11)
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=120)
    return file.getvalue()


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m mmlolvit.benchmark.attention',
        description='Time and peak memory of FWA and of other attention on square maps.',
    )
    add = parser.add_argument
    add('--sides', nargs='+', type=int, default=[14, 28, 56, 112, 256], help='of maps, in pixels')
    add('--channels', type=int, default=64)
    add('--batch', type=int, default=1)
    add('--rounds', type=int, default=5)
    add('--budget', type=float, default=20, help='seconds after which a method has no more rounds')
    add('--threads', type=int, default=2)
    add('--device', choices=['cpu', 'cuda'], default='cpu')
    add('--out', metavar='P', help='write P.json, P.md and P.png')
    args = parser.parse_args(argv)
    # Batch norm cannot train on one position.
    require_at_least(parser, args, sides=2, channels=QK_CHANNELS, batch=1, rounds=1, threads=1)
    args.sides = sorted(set(args.sides))
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: PyTorch sees no GPU; leave --device out to measure the CPU')
    return args


@exits
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.out:
        check_writable(Path(args.out).parent)
    torch.set_num_threads(args.threads)
    where = environment(args.device)
    found = compare(args)
    text = report(found, args, where)
    print(text, end='')
    if args.out:
        content = dict(
            command=command(args),
            environment=where,
            settings={key: value for key, value in vars(args).items() if key != 'out'},
            exponents=exponents(found),
            figures=[dataclasses.asdict(figures) for figures in found],
        )
        write_whole(f'{args.out}.json', json.dumps(content, indent=1) + '\n')
        image = f'![Attention as the map grows]({Path(args.out).name}.png)'
        write_whole(f'{args.out}.md', f'# Attention as the map grows\n\n{image}\n\n{text}')
        write_whole(f'{args.out}.png', draw(found, args, where))


if __name__ == '__main__':
    sys.exit(main())
