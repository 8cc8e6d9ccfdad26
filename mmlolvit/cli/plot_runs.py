"""Training runs on one picture: ``tools/plot_runs.py WORK_DIR...``."""

import argparse
import io
import math
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from ..analysis.logs import Run, read_runs
from ..analysis.tables import make_table
from ..benchmark.report import write_whole
from ..drawing import distinct_colors
from ..errors import UserError, did_you_mean
from .common import check_writable, exits

HEADLINES = ('*/top1', '*_mAP', 'mIoU')  # of a run that has none of them, every metric
MOST = 100  # curves above each other: more take minutes to draw, and are too high for a picture
HIGHEST = 1e300  # that is drawn: matplotlib cannot count from a value to one as far below 0


@exits
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    check_writable(args.out.parent)
    runs = read_runs(args.work_dirs)
    keys = choose_keys(runs, args.keys)
    if len(keys) > MOST:
        raise UserError(f'expected at most {MOST} curves, got {len(keys)}; name fewer with --keys')
    write_whole(args.out, draw(runs, keys))
    print(tabulate(runs, keys))
    print(f'curves in {args.out}')


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Curves of training runs of any task on one picture, finished or not, with the '
        'best of each metric. A run that was resumed is one curve.'
    )
    add = parser.add_argument
    add('work_dirs', nargs='+', metavar='WORK_DIR', help='of tools/train.py')
    add('--out', type=Path, default='runs.png', help='picture; default: runs.png')
    add(
        '--keys',
        nargs='+',
        metavar='KEY',
        help='what to draw, as the logs call it, or a pattern as in "loss*"; default: loss, time '
        f'and {", ".join(HEADLINES)}',
    )
    args = parser.parse_args(argv)
    if args.out.suffix != '.png':
        parser.error(f'--out expects a name that ends in .png, got {args.out}')
    return args


def choose_keys(runs: list[Run], wanted: list[str] | None) -> list[str]:
    """What is drawn, in order; raises UserError for a key that no run logged."""
    known = list(dict.fromkeys(key for run in runs for key in (*run.training, *run.metrics)))
    if wanted is None:
        keys = ['loss']
        for run in runs:
            best = [key for key in run.metrics if any(fnmatch(key, name) for name in HEADLINES)]
            keys += best or list(run.metrics)
        keys = [key for key in dict.fromkeys([*keys, 'time']) if any(run.find(key) for run in runs)]
        return keys or known
    keys = []
    for name in wanted:
        found = [key for key in known if fnmatch(key, name)]
        if not found:
            near = did_you_mean(name, {key.lower(): key for key in known})
            raise UserError(
                f'--keys {name}: no run logged it' + (near or f'; they logged {", ".join(known)}')
            )
        keys += found
    return list(dict.fromkeys(keys))


def tabulate(runs: list[Run], keys: Sequence[str]) -> str:
    """Each run with its last step, loss, best metrics and where, and seconds an iteration."""
    rows = []
    for run in runs:
        place, loss, times = f'iteration {run.last}', run.find('loss'), run.find('time')
        best = [f'{key} {describe_best(run, key)}' for key in keys if run.best(key) is not None]
        rows.append(
            (
                run.name,
                f'{run.place(run.last)}, {place}' if run.per_epoch else place,
                f'{loss[max(loss)]:.4g}' if loss else '-',
                ', '.join(best) or '-',
                f'{median(times.values()):.3g}' if times else '-',
            )
        )
    return make_table(('run', 'last', 'loss', 'best', 's / iteration'), rows)


def describe_best(run: Run, key: str) -> str:
    step = run.best(key)
    return f'{run.find(key)[step]:.4g} at {run.place(step)}'


def draw(runs: list[Run], keys: Sequence[str]) -> bytes:
    """PNG with a row for each key; x in epochs where all runs count them, else in iterations."""
    epochs = all(run.per_epoch for run in runs)
    palette = matplotlib.colormaps['tab10'].colors
    if len(runs) > len(palette):
        palette = [[part / 255 for part in color] for color in distinct_colors(len(runs))]
    figure = Figure(figsize=(11, 0.6 + max(2.6, 0.2 * len(runs)) * len(keys)), layout='constrained')
    rows = figure.subplots(len(keys), 1, sharex=True, squeeze=False)[:, 0]
    for axes, key in zip(rows, keys, strict=True):
        drawn = []
        for run, color in zip(runs, palette, strict=False):
            values = run.find(key)
            if not values:
                continue
            steps = sorted(values)
            unit = run.per_epoch if epochs else 1
            heights = [values[step] if is_drawn(values[step]) else math.nan for step in steps]
            drawn += filter(math.isfinite, heights)
            few = dict(marker='.', markersize=5) if len(steps) < 40 else {}
            axes.plot(
                [step / unit for step in steps], heights, color=color, linewidth=1.4,
                label=as_written(describe_curve(run, key)), **few,
            )  # fmt: skip
            best = run.best(key)
            if best is not None and is_drawn(values[best]):
                axes.plot(
                    best / unit, values[best], '*', color=color, markersize=13,
                    markeredgecolor='black', zorder=3,
                )  # fmt: skip
        measured = any(key in run.metrics for run in runs)
        if drawn and not measured and 0 < 8 * min(drawn) < max(drawn):
            axes.set_yscale('log')
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
            axes.yaxis.set_minor_formatter(NullFormatter())
        title = 'seconds an iteration' if key == 'time' else as_written(key)
        axes.set_title(title, loc='left', fontsize=10)
        axes.grid(True, which='both', color='0.92')
        axes.margins(x=0.02)
        axes.legend(
            loc='upper left', bbox_to_anchor=(1.005, 1.03), fontsize=9, frameon=False,
            handlelength=1.5,
        )  # fmt: skip
    rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    rows[-1].set_xlabel('epoch' if epochs else 'iteration')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()


def is_drawn(value: float) -> bool:
    return abs(value) <= HIGHEST


def as_written(name: str) -> str:
    """A name for matplotlib, which reads formulas in $ and has labels from _ in no legend."""
    return (' ' if name.startswith('_') else '') + name.replace('$', r'\$')


def describe_curve(run: Run, key: str) -> str:
    if run.best(key) is not None:
        return f'{run.name}: {describe_best(run, key)}'
    values = run.find(key)
    if key == 'time':
        return f'{run.name}: median {median(values.values()):.3g}'
    return f'{run.name}: last {values[max(values)]:.4g}'
