"""One large image beside a batch of small ones of the same pixels: time and peak memory."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from ..cli.common import check_writable, exits, require_at_least
from ..engine.secrecy import hide_argument
from ..errors import UserError
from .report import describe, environment, write_whole
from .runtimes import missing
from .speed import Cell, find, measure

SIDE = 256


@exits
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m mmlolvit.benchmark.resolution',
        description='Time and peak memory of models on one large square image, as times those on '
        f'a batch of {SIDE} x {SIDE} images of as many pixels, in rounds that take turns.',
    )
    add = parser.add_argument
    add('names', nargs='*', metavar='MODEL', default=['lolvit_x', 'mobilevit_xs'])
    add('--side', type=int, default=2048, help=f'of the large image, a multiple of {SIDE} pixels')
    add('--runtimes', nargs='+', choices=['eager', 'compile', 'onnxruntime'], default=['eager'])
    add('--device', choices=['cpu', 'cuda'], default='cpu')
    add('--rounds', type=int, default=7)
    add('--threads', type=int, default=torch.get_num_threads())
    add('--out', metavar='P', help='write P.json and P.md')
    args = parser.parse_args(argv)
    if args.side < SIDE or args.side % SIDE:
        parser.error(f'--side expects a multiple of {SIDE}, got {args.side}')
    require_at_least(parser, args, rounds=1, threads=1)
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: this PyTorch finds no GPU; leave --device out for the CPU')
    for runtime in args.runtimes:
        if reason := missing(runtime, args.device):
            raise UserError(reason)
    if args.out:
        check_writable(Path(args.out).parent)
    names, _ = find(args.names)
    shapes = [((args.side // SIDE) ** 2, SIDE), (1, args.side)]
    cells = [
        Cell(runtime, args.device, 'fp32', 'inference', batch, (side, side))
        for runtime in args.runtimes
        for batch, side in shapes
    ]
    torch.set_num_threads(args.threads)
    measure(names, cells, args.rounds, args.threads)

    where, rows = environment(args.device), table(names, cells)
    print(rows)
    if args.out:
        words = sys.argv[1:] if argv is None else argv
        command = ' '.join(['python -m mmlolvit.benchmark.resolution', *map(hide_argument, words)])
        content = dict(command=command, environment=where, cells=[asdict(cell) for cell in cells])
        write_whole(f'{args.out}.json', json.dumps(content, indent=1) + '\n')
        write_whole(f'{args.out}.md', f'`{command}`\n\n{describe(where)}\n\n{rows}\n')
    return 0


def table(names: list[str], cells: list[Cell]) -> str:
    """Each pair of cells as a row of each model, in Markdown."""
    lines = [
        '| runtime | model | batch, s | one image, s | times | batch, MB | one image, MB | times |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for small, large in zip(cells[::2], cells[1::2], strict=True):
        for name in names:
            if reason := small.failed.get(name) or large.failed.get(name):
                lines.append(f'| {small.runtime} | {name} | failed: {reason} |')
                continue
            row = []
            for key, unit in (('seconds', 1), ('memory', 2**20)):
                a, b = (cell.results[name][key] for cell in (small, large))
                known = a is not None
                form = '{:.3f}' if unit == 1 else '{:.0f}'
                row += [form.format(x / unit) if known else '-' for x in (a, b)]
                row.append(f'{b / a:.2f}' if known else '-')
            lines.append(f'| {small.runtime} | {name} | {" | ".join(row)} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
