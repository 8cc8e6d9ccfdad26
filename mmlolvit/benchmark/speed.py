"""Measure models side by side: ``tools/benchmark.py [MODEL ...]``."""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..cli.common import check_writable, exits, require_at_least
from ..engine.secrecy import hide_argument
from ..errors import UserError
from .models import check_name
from .published import PUBLISHED
from .report import environment, write_whole
from .runtimes import MODES, PRECISIONS, RUNTIMES, missing, refuse
from .speed_report import draw, markdown, table
from .worker import Died, Worker

SUITE = ('mobilevit_xs', *(name for name in PUBLISHED if name != 'mobilevit_xs'))
OURS = ('lolvit_xx', 'lolvit_x', 'lolvit_s')


@dataclass
class Cell:
    """What a model is measured in, and what came out of it.

    Attributes:
        results: Per model: `seconds` for the batch (median), `low` and `high` (quartiles), `ratio`
            to the speed of the first model, `memory` in bytes or None, `parameters`, `macs` and
            `activations` of one image, `layout`, `rounds`.
        failed: Per model that could not be measured, why.
    """

    runtime: str
    device: str
    precision: str
    mode: str
    batch: int
    size: tuple[int, int]
    results: dict[str, dict] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        extra = [self.precision] * (self.precision != 'fp32')
        extra += ['training step'] * (self.mode == 'training')
        extra += ['GPU'] * (self.device == 'cuda')
        size = f'{self.size[0]} x {self.size[1]}'
        return ', '.join((self.runtime, *extra, f'batch {self.batch}', size))


def measure(names: Sequence[str], cells: Sequence[Cell], rounds: int, threads: int) -> None:
    """Fill the cells, in rounds that take the models in turn, each in a process of its own.

    A turn runs the model first without counting, so that nobody pays for the caches that the
    model before left behind. Cells that differ in batch and size alone are measured in turn too.
    """
    workers = {name: Worker(name, threads) for name in names}
    total = sum(len(names) * (1 + rounds) for _ in cells)
    try:
        with tqdm(total=total, unit='run', dynamic_ncols=True) as bar:
            for _, group in itertools.groupby(
                cells, lambda cell: (cell.runtime, cell.precision, cell.mode)
            ):
                _measure_together(workers, list(group), rounds, bar)
    finally:
        for worker in workers.values():
            worker.close()
    for cell in cells:
        base = cell.results.get(names[0])
        for result in cell.results.values():
            result['ratio'] = base and base['seconds'] / result['seconds']


def _measure_together(workers: dict, cells: list[Cell], rounds: int, bar: tqdm) -> None:
    pairs = list(itertools.product(enumerate(cells), workers.items()))
    alive, times = {}, {}

    def ask(place: int, cell: Cell, name: str, **request) -> dict | None:
        bar.set_postfix_str(f'{cell.title}: {name}')
        bar.update()
        try:
            return workers[name].ask(key=place, **request)
        except Died as error:
            fail(cell, name, str(error))
            if workers[name].process is None:  # and with it its other cells
                for i, other in enumerate(cells):
                    if alive.pop((i, name), None):
                        fail(other, name, str(error))
            alive.pop((place, name), None)
        return None

    def fail(cell: Cell, name: str, reason: str) -> None:
        cell.failed[name] = reason
        tqdm.write(f'{cell.title}: {name} failed: {reason}', file=sys.stderr)

    for (place, cell), (name, _) in pairs:
        settings = (cell.runtime, cell.device, cell.precision, cell.mode, cell.batch, cell.size)
        keys = ('runtime', 'device', 'precision', 'mode', 'batch', 'size')
        request = dict(zip(keys, settings, strict=True))
        loaded = ask(place, cell, name, command='load', **request)
        if loaded is not None:
            alive[place, name], times[place, name] = loaded, []
    for _ in range(rounds):
        for (place, cell), (name, _) in pairs:
            if (place, name) not in alive:
                bar.update()
                continue
            reply = ask(place, cell, name, command='run')
            if reply is not None:
                times[place, name].append(reply['seconds'])
    for (place, cell), (name, worker) in pairs:
        if (place, name) in alive:
            cell.results[name] = summary(times[place, name]) | alive[place, name]
        if worker.process is not None and place == len(cells) - 1:
            worker.ask(command='drop')


def summary(times: list[float]) -> dict:
    """Median and quartiles, in seconds."""
    low, middle, high = np.percentile(times, (25, 50, 75)).tolist()
    return dict(seconds=middle, low=low, high=high, rounds=len(times))


@exits
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description='Measure models side by side: speed, peak memory and what they count. Each is '
        'whole, with random weights, folded and in its faster memory layout; all take turns.'
    )
    parser.add_argument(
        'names',
        nargs='*',
        metavar='MODEL',
        help="lolvit_xx, lolvit_x, lolvit_s, with FWA's options as in lolvit_x:score=softmax; a "
        "config; 'mmpretrain:' and a name of mmpretrain's; or a name of timm's. The others are "
        f'compared with the first. Default: {SUITE[0]}, {len(SUITE) - 1} others and ours',
    )
    parser.add_argument('--runtimes', nargs='+', choices=RUNTIMES, default=['eager'])
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--precisions', nargs='+', choices=PRECISIONS, default=['fp32'], help='by autocast'
    )
    parser.add_argument('--modes', nargs='+', choices=MODES, default=['inference'])
    parser.add_argument('--batches', nargs='+', type=int, default=[1, 16])
    parser.add_argument(
        '--sizes', nargs='+', default=['256'], help='of the image: a side, or as in 512x1024'
    )
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--out', metavar='P', help='write P.json, P.md and P.png')
    args = parser.parse_args(argv)
    sizes = [read_size(parser, size) for size in args.sizes]
    require_at_least(parser, args, rounds=1, threads=1, batches=1)
    names, absent = find(args.names)
    cells = plan(args, sizes)
    if args.out:
        check_writable(Path(args.out).parent)

    torch.set_num_threads(args.threads)
    measure(names, cells, args.rounds, args.threads)
    if not any(cell.results for cell in cells):
        print('error: no model could be measured', file=sys.stderr)
        return 1
    report = dict(
        command=command(argv),
        environment=environment(args.device),
        base=names[0],
        missing=absent,
        cells=[asdict(cell) | dict(title=cell.title) for cell in cells],
    )
    for cell in report['cells']:
        print(table(cell, report['base']), end='\n\n', flush=True)
    if absent:
        print(f'not in the installed timm: {", ".join(absent)}')
    if args.out:
        write_whole(f'{args.out}.json', json.dumps(report, indent=1) + '\n')
        write_whole(f'{args.out}.md', markdown(report))
        write_whole(f'{args.out}.png', draw(report))
        print(f'{args.out}.json, {args.out}.md, {args.out}.png')
    return 0


def read_size(parser: argparse.ArgumentParser, text: str) -> tuple[int, int]:
    """Height and width of ``--sizes``, '256' or '512x1024'."""
    sides = text.split('x')
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        parser.error(f'--sizes expects a side or HEIGHTxWIDTH in pixels, got {text!r}')
    return int(sides[0]), int(sides[-1])


def find(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The models to measure, and those of the default ones that the installed timm lacks."""
    absent = []
    try:
        for name in names or SUITE:
            try:
                check_name(name)
            except UserError:
                if names:
                    raise
                absent.append(name)
    except ImportError as error:
        raise UserError(
            f'{error.name} is not installed: pip install -r requirements/benchmark.txt'
        ) from error
    chosen = names or (*SUITE, *OURS)
    return [name for name in dict.fromkeys(chosen) if name not in absent], absent


def plan(args: argparse.Namespace, sizes: list[tuple[int, int]]) -> list[Cell]:
    """The cells to measure. Raises UserError where nothing can be."""
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: this PyTorch finds no GPU; leave --device out for the CPU')
    for runtime in args.runtimes:
        if reason := missing(runtime, args.device):
            raise UserError(reason)
    cells = []
    for runtime, precision, mode in itertools.product(args.runtimes, args.precisions, args.modes):
        reason = refuse(runtime, args.device, precision, mode)
        if reason is None:
            cells += [
                Cell(runtime, args.device, precision, mode, batch, size)
                for batch, size in itertools.product(args.batches, sizes)
            ]
        else:
            print(f'left out: {runtime}, {precision}, {mode}: {reason}', file=sys.stderr)
    if not cells:
        raise UserError('nothing to measure')
    return cells


def command(argv: list[str] | None) -> str:
    words = sys.argv[1:] if argv is None else argv
    return ' '.join(['python tools/benchmark.py', *map(hide_argument, words)])


if __name__ == '__main__':
    sys.exit(main())
