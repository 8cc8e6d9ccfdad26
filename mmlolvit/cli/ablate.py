"""Train what an ablation compares, and write one table: ``tools/ablate.py SUITE...``."""

import argparse
import os
import sys
from pathlib import Path

import torch

from ..ablation.report import as_csv, collect, draw, markdown
from ..ablation.runs import alone, plan, train
from ..ablation.variants import find_variants, suites
from ..benchmark.report import write_whole
from ..engine.secrecy import hide_argument
from .common import check_writable, exits, require_at_least

SHORT = ('lolvit_xx_cue_far_short', 'lolvit_xx_cue_near_short')
LONG = ('lolvit_x_cue_far', 'lolvit_x_cue_near')


@exits
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    configs = args.on or (LONG if args.long else SHORT)
    check_writable(args.work_dir)
    check_writable(Path(args.out).parent)
    with alone(Path(args.work_dir)):
        runs = plan(configs, find_variants(args.suites), args.seeds, Path(args.work_dir))
        train(runs, args.jobs)
    rows = collect(runs, args.threads)
    words = sys.argv[1:] if argv is None else argv
    command = ' '.join(['python tools/ablate.py', *map(hide_argument, words)])
    table = markdown(rows, command)
    write_whole(f'{args.out}.md', table)
    write_whole(f'{args.out}.csv', as_csv(rows))
    draw(rows, Path(f'{args.out}.png'))
    print(table)
    print(f'{args.out}.md, {args.out}.csv, {args.out}.png')
    return 1 if any(run.failed for run in runs) else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train variants of a config with several seeds, and write one table. Runs that '
        'are done are kept, and one that was killed goes on. Exit code 1 where one failed.'
    )
    add = parser.add_argument
    add('suites', nargs='+', metavar='SUITE', help=', '.join(suites()))
    add(
        '--on',
        nargs='+',
        metavar='CONFIG',
        help='config files or names; default: both forms of cue, short',
    )
    add('--long', action='store_true', help="without --on: LOLViT-X's whole recipes")
    add('--seeds', nargs='+', type=int, default=[0, 1, 2], help='default 0 1 2')
    add('--work-dir', default='work_dirs/ablation', help='default work_dirs/ablation')
    add('--out', metavar='P', help='write P.md, P.csv and P.png; default: WORK_DIR/table')
    add(
        '--jobs',
        type=int,
        default=torch.cuda.device_count() or os.cpu_count() or 1,
        help='runs at once; default: one for each GPU, or CPU core',
    )
    add('--threads', type=int, default=torch.get_num_threads(), help='while latency is measured')
    args = parser.parse_args(argv)
    require_at_least(parser, args, jobs=1, threads=1, seeds=0)
    args.out = args.out or f'{args.work_dir}/table'
    return args
