"""Time the loading of a config's training images: ``python -m mmlolvit.benchmark.data CONFIG``."""

import itertools
import sys
import time

import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ..cli.common import exits, make_parser, require_at_least
from ..cli.data import check_data
from ..cli.samples import guard
from ..datasets import ensure_embedded
from ..zoo import load_config
from .report import describe, environment


@exits
def main(argv: list[str] | None = None) -> None:
    parser = make_parser(
        "Time a config's training data loader alone, reading and augmentation included, to put "
        'beside the training step of tools/benchmark.py --modes training.'
    )
    parser.add_argument(
        '--workers', nargs='+', type=int, help="processes that load; default: the config's number"
    )
    parser.add_argument('--batches', type=int, default=20, help='timed, after those of the start')
    args = parser.parse_args(argv)
    require_at_least(parser, args, batches=1, **(dict(workers=0) if args.workers else {}))
    cfg, _ = load_config(args.config, args.cfg_options, ('train_dataloader',))
    ensure_embedded(cfg)
    check_data(cfg, 'train_dataloader')
    init_default_scope(cfg.default_scope)
    print(describe(environment('cpu')), end='\n\n')
    print('| workers | images / s | ms / image |\n|---|---|---|')
    for workers in args.workers or [cfg.train_dataloader.get('num_workers', 0)]:
        seconds = measure(cfg, workers, args.batches)
        print(f'| {workers} | {1 / seconds:.0f} | {seconds * 1e3:.2f} |', flush=True)


def measure(cfg, workers: int, batches: int) -> float:
    """Seconds an image, over ``batches`` batches after two for each worker, epochs in a row."""
    settings = dict(cfg.train_dataloader, num_workers=workers, persistent_workers=workers > 0)
    loader = Runner.build_dataloader(settings)
    guard(loader.dataset, cfg)
    stream = itertools.chain.from_iterable(itertools.repeat(loader))
    for _ in range(2 * max(workers, 1)):
        next(stream)
    start, images = time.perf_counter(), 0
    for batch in itertools.islice(stream, batches):
        images += len(batch['inputs'])
    return (time.perf_counter() - start) / images


if __name__ == '__main__':
    np.random.seed(0)
    torch.manual_seed(0)
    sys.exit(main())
