"""Export a checkpoint of any task: ``tools/export_onnx.py CONFIG CKPT``."""

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

from .. import __version__
from ..datasets import ensure_embedded
from ..deploy.graphs import GRAPHS, Normalized, SegmentLogits
from ..deploy.half import halve
from ..deploy.onnx import check_exporter, export_onnx, open_model, run, unnormalize
from ..deploy.quantize import quantize
from ..errors import UserError
from ..inference import find_meta, load_model
from ..zoo import load_config
from .common import check_file, exits, make_parser, read_size, take_checkpoint
from .data import check_data, first_dataset
from .samples import guard

COMPARED = 8  # images of the test set
CALIBRATED = 128  # images of the training set, spread over it
LIMIT = 0.01  # of the difference that a graph defines
# Half precision rounds by up to 0.05 %, which moves weak boxes over the thresholds: 0.4 % of those
# of a trained RetinaNet. An overflow changes most, and so does rounding before much is learned.
HALF_LIMIT = 0.05


class Differs(UserError):
    """An exported model that answers otherwise than the one that it was made of."""


@exits
def main(argv: list[str] | None = None) -> int:
    try:
        print(export(argv))
    except Differs as error:
        print(f'error: {error}', file=sys.stderr)
        return 1


def export(argv: list[str] | None = None) -> str:
    """As `main`, in words what was written; raises UserError, and Differs where nothing was."""
    args, out, size = parse(argv)
    loaders = ('test_dataloader', 'train_dataloader')[: 1 + args.int8]
    cfg, task = load_config(args.config, args.cfg_options, ('model', *loaders))
    if args.logits and task.scope != 'mmseg':
        raise UserError(f'--logits is for segmentation, but {args.config} is for {task.scope}')
    check_exporter()
    check_file(out)
    ensure_embedded(cfg)
    check_data(cfg, *loaders)
    model, meta = load_model(cfg, args.checkpoint)

    inside = args.normalize == 'inside'
    images = list(read_images(cfg, model, inside, COMPARED))
    size = size or tuple(images[0].shape[2:])
    metadata = dict(
        task=task.scope,
        classes=list(find_meta(cfg, meta)['classes']),
        normalized_inside=inside,
        config=Path(args.config).name,
        mmlolvit=__version__,
    )
    if hasattr(model, 'align_corners'):
        metadata['align_corners'] = model.align_corners
    graph = SegmentLogits if args.logits else GRAPHS[task.scope]
    sizes = [size] if 'size' not in args.dynamic else [size, tuple(n * 3 // 2 for n in size)]
    batches = [torch.cat([resize(image, size) for image in images]) for size in sizes]
    with tempfile.TemporaryDirectory(prefix='.export-', dir=out.parent) as folder:
        part = Path(folder, out.name)
        export_onnx(model, graph, part, size, args.dynamic, inside, metadata)
        want, got = ask_model(model, graph, inside, batches), ask(part, batches)
        worst = find_difference(graph, want, got)
        if not worst <= LIMIT:
            raise Differs(f'the exported model differs from PyTorch by {worst:.1%}: not written')
        report = f'differs from PyTorch by {worst:.2%}'
        if args.fp16 or args.int8:
            whole, part = part, Path(folder, f'small_{out.name}')
            if args.fp16:
                halve(whole, part)
            else:
                calibration = read_images(cfg, model, inside, CALIBRATED, 'train_dataloader')
                quantize(whole, part, (resize(image, size) for image in calibration))
            small = ask(part, batches)
            worst = find_difference(graph, got, small)
            kind = 'half precision' if args.fp16 else '8 bits'
            if args.fp16 and not worst <= HALF_LIMIT:
                raise Differs(f'{kind} differs from float32 by {worst:.1%}: not written')
            changed, total = map(sum, zip(*map(graph.changed, got, small), strict=True))
            report += f' in float32; {kind} from that by {worst:.2%}, '
            report += f'with {changed} of {total} {graph.unit} changed'
        os.replace(part, out)
    return f'{out}: {out.stat().st_size / 1e6:.1f} MB, {report}'


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, Path, tuple[int, int] | None]:
    """The arguments, with the file to write and the size of the image, if it was given."""
    parser = make_parser(
        'Export a model to ONNX, from the image to the final answer, and compare its answers with '
        "PyTorch's on images of the test set. Exit code 1, and no file, where they differ."
    )
    take_checkpoint(parser)
    parser.add_argument('--out', metavar='FILE.onnx', help="default: the checkpoint's name, here")
    parser.add_argument(
        '--size',
        nargs='+',
        type=int,
        help='side of the image, or height and width; default: that of the first test image',
    )
    parser.add_argument(
        '--dynamic',
        nargs='+',
        choices=['batch', 'size'],
        default=[],
        help='let the number of images, or their height and width, be any; default: one image',
    )
    parser.add_argument(
        '--normalize',
        choices=['inside', 'outside'],
        default='inside',
        help='inside, the file takes images as they are read, BGR from 0 to 255; outside, those '
        "that the config's data preprocessor made",
    )
    parser.add_argument(
        '--logits',
        action='store_true',
        help='segmentation: the score of each class at each pixel, to be resized before the class '
        'is chosen, instead of the class',
    )
    smaller = parser.add_mutually_exclusive_group()
    smaller.add_argument(
        '--fp16',
        action='store_true',
        help='weights and activations in half precision; input, decoding and outputs in float32',
    )
    smaller.add_argument(
        '--int8',
        action='store_true',
        help=f'weights and activations in 8 bits, calibrated on {CALIBRATED} training images',
    )
    args = parser.parse_args(argv)
    out = Path(args.out or f'{Path(args.checkpoint).stem}.onnx')
    if out.suffix != '.onnx':
        parser.error(f'expected a name that ends in .onnx, got {out}')
    return args, out, read_size(parser, args.size) if args.size else None


def read_images(
    cfg: Config, model: nn.Module, inside: bool, number: int, loader: str = 'test_dataloader'
) -> Iterator[Tensor]:
    """Images as the exported model takes them, each (1, 3, H, W).

    They are spread over the data set of a dataloader, which is read by the test pipeline.
    """
    settings = dict(cfg.test_dataloader, batch_size=1, num_workers=0, persistent_workers=False)
    pipeline = first_dataset(cfg, 'test_dataloader').pipeline
    settings['dataset'] = dict(first_dataset(cfg, loader), pipeline=pipeline)
    built = Runner.build_dataloader(settings)
    guard(built.dataset, cfg)
    step = max(1, len(built.dataset) // number)
    for place in itertools.islice(range(0, len(built.dataset), step), number):
        batch = built.collate_fn([built.dataset[place]])
        image = model.data_preprocessor(batch)['inputs']
        yield unnormalize(image, model.data_preprocessor) if inside else image


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(image, size, mode='bilinear')


@torch.no_grad()
def ask_model(
    model: nn.Module, graph: type[nn.Module], inside: bool, batches: list[Tensor]
) -> list[Sequence[Tensor]]:
    """PyTorch's answers to batches of images."""
    net = graph(model)
    net = Normalized(net, model.data_preprocessor) if inside else net
    return [net.eval()(batch) for batch in batches]


def ask(file: Path, batches: list[Tensor]) -> list[Sequence[Tensor]]:
    """The answers of an exported model to batches of images."""
    session = open_model(str(file))
    return [run(session, batch) for batch in batches]


def find_difference(graph: type[nn.Module], a: list, b: list) -> float:
    """The largest between answers to the same batches; NaN if any is."""
    return torch.tensor(list(map(graph.difference, a, b))).max().item()
