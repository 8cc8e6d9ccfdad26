"""The deployed forms of trained models side by side: accuracy, changed predictions, size, speed.

Each form is tested by `tools/test.py` on the whole test set. Times are those of one test image,
from the image to the final answer: interleaved rounds, medians.
"""

import argparse
import base64
import contextlib
import copy
import io
import json
import shlex
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from ..cli.common import check_writable, exits, make_parser, require_at_least
from ..cli.data import check_data
from ..cli.export_onnx import export, load_model, read_images
from ..cli.test import main as run_test
from ..datasets import ensure_embedded
from ..deploy import fuse
from ..deploy.graphs import GRAPHS, Normalized, SegmentLogits
from ..deploy.onnx import INPUT, check_exporter, open_model
from ..engine.secrecy import hide_argument, hide_urls
from ..zoo import load_config
from .report import describe, environment, write_whole

PYTORCH = 'PyTorch'
FILES = {'ONNX float32': [], 'ONNX fp16': ['--fp16'], 'ONNX int8': ['--int8']}
LAYOUTS = (torch.contiguous_format, torch.channels_last)
NEEDED = ('model', 'test_dataloader', 'train_dataloader', 'test_cfg', 'test_evaluator')
NOTES = """\
PyTorch has every BatchNorm folded and runs in the faster memory layout; its size is that of its
weights. Changed are predictions on the whole test set that are not PyTorch's: labels; the share of
pixels; the share of boxes, of either side, without one of the same class at an IoU of 0.99 whose
score is the same up to 0.01. Times are those of one image of the test set, from the image to the
final answer: medians of {rounds} rounds that take the forms in turn."""


@dataclass
class Form:
    """What was measured of one form of a model.

    Attributes:
        value: Of the model's metric; None where it is not a number.
        changed: Predictions that are not PyTorch's, of ``total``.
        bytes: Of the file; of PyTorch's weights.
        seconds: An image, in each round.
    """

    name: str
    value: float | None
    changed: int
    total: int
    bytes: int
    seconds: list[float]


class Subject:
    """A trained model, from its config and checkpoint.

    Raises:
        UserError: On a config, checkpoint, data or model that cannot be tested or exported.
    """

    def __init__(self, config: str, checkpoint: str, options: list[str]):
        args = make_parser('').parse_args([config, *options])
        self.config, self.checkpoint, self.options = config, checkpoint, options
        self.cfg, self.task = load_config(args.config, args.cfg_options, NEEDED)
        ensure_embedded(self.cfg)
        check_data(self.cfg, 'test_dataloader', 'train_dataloader')
        self.model, _ = load_model(self.cfg, checkpoint)
        # Maps cannot be resized as mmseg resizes scores.
        self.logits = self.task.scope == 'mmseg'
        graph = SegmentLogits if self.logits else GRAPHS[self.task.scope]
        self.net = graph(self.model)

    @property
    def name(self) -> str:
        return Path(self.config).stem


def measure(subject: Subject, dynamic: list[str], rounds: int, folder: Path) -> dict:
    """Files of a model, tested and timed beside PyTorch; see `Form`."""
    init_default_scope(subject.task.scope)
    image = next(read_images(subject.cfg, subject.model, inside=True, number=1))
    fuse(subject.model)
    net = Normalized(subject.net, subject.model.data_preprocessor).eval()
    weights = {PYTORCH: subject.checkpoint}
    sizes = {PYTORCH: sum(x.numel() * x.element_size() for x in net.state_dict().values())}
    runs = {(PYTORCH, layout): in_layout(net, image, layout) for layout in LAYOUTS}
    for name, flags in FILES.items():
        progress(subject, f'export {name}')
        file = folder / f'{name.replace(" ", "-")}.onnx'
        argv = [subject.config, subject.checkpoint, '--out', str(file), *flags]
        argv += ['--logits'] * subject.logits
        argv += ['--dynamic', *dynamic] if dynamic else []
        export([*argv, *subject.options])
        weights[name], sizes[name] = str(file), file.stat().st_size
        runs[name, None] = in_session(str(file), image)
    tested = {}
    for name in weights:
        progress(subject, f'test {name}')
        tested[name] = test(subject, weights[name], folder)
    progress(subject, 'time')
    seconds = {}
    for (name, _), times in take_turns(runs, rounds).items():
        best = seconds.get(name)
        if best is None or statistics.median(times) < statistics.median(best):
            seconds[name] = times

    graph = GRAPHS[subject.task.scope]
    metric = find_metric(subject.cfg, tested[PYTORCH]['metrics'])
    answers = {name: read(subject.task.scope, found) for name, found in tested.items()}
    forms = [
        Form(
            name,
            tested[name]['metrics'][metric],
            *graph.changed(answers[PYTORCH], answers[name]),
            sizes[name],
            seconds[name],
        )
        for name in tested
    ]
    return dict(
        config=subject.config,
        checkpoint=hide_urls(subject.checkpoint),
        metric=metric,
        unit=graph.unit,
        image=list(image.shape),
        forms=[asdict(form) for form in forms],
    )


def in_layout(net: nn.Module, image: Tensor, layout: torch.memory_format) -> Callable:
    net, image = copy.deepcopy(net).to(memory_format=layout), image.to(memory_format=layout)
    return torch.inference_mode()(lambda: net(image))


def in_session(file: str, image: Tensor) -> Callable:
    session, feed = open_model(file), {INPUT: image.contiguous().numpy()}
    return lambda: session.run(None, feed)


def take_turns(runs: dict, rounds: int) -> dict:
    """Seconds of each run in each round.

    A turn is two runs of which the second counts, so that nobody pays for the caches that the one
    before left behind.
    """
    seconds = {key: [] for key in runs}
    for i in range(rounds + 2):
        for key, run in runs.items():
            run()
            start = time.perf_counter()
            run()
            if i >= 2:
                seconds[key].append(time.perf_counter() - start)
    return seconds


def test(subject: Subject, weights: str, folder: Path) -> dict:
    """What `tools/test.py --out` writes of a checkpoint or a file."""
    out = folder / 'tested.json'
    argv = [subject.config, weights, '--out', str(out), '--work-dir', str(folder / 'work')]
    run_test.__wrapped__([*argv, *subject.options])  # its errors are those of this command
    return json.loads(out.read_text())


def find_metric(cfg, metrics: dict) -> str:
    """The one that the config chooses its best checkpoint by, or else the first."""
    wanted = cfg.get('default_hooks', {}).get('checkpoint', {}).get('save_best')
    return wanted if wanted in metrics else next(iter(metrics))


def read(scope: str, tested: dict) -> list:
    """The predictions of `tools/test.py --out` as a graph of `scope` answers, of all images."""
    found = tested['predictions']
    if scope == 'mmpretrain':
        return [F.one_hot(torch.tensor([image['pred_label'] for image in found]))]
    if scope == 'mmseg':
        return [[read_map(image['map_png']) for image in found]]
    return [
        [torch.tensor(image['boxes']).reshape(-1, 4) for image in found],
        *([torch.tensor(image[key]) for image in found] for key in ('scores', 'labels')),
    ]


def read_map(text: str) -> Tensor:
    content = np.frombuffer(base64.b64decode(text), np.uint8)
    return torch.from_numpy(cv2.imdecode(content, cv2.IMREAD_UNCHANGED).astype(np.int32))


def table(measured: list[dict]) -> str:
    lines = ['| model | form | metric | changed | MB | ms / image |', '|---|---|---|---|---|---|']
    for model in measured:
        for form in (Form(**form) for form in model['forms']):
            cells = (
                Path(model['config']).stem,
                form.name,
                f'{model["metric"]} {"-" if form.value is None else f"{form.value:.4g}"}',
                '-' if form.name == PYTORCH else changes(form, model['unit']),
                f'{form.bytes / 1e6:.1f}',
                f'{statistics.median(form.seconds) * 1e3:.2f}',
            )
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def changes(form: Form, unit: str) -> str:
    if unit == 'labels':
        return f'{form.changed} of {form.total} {unit}'
    return f'{form.changed / max(form.total, 1):.3%} of {unit}'


def progress(subject: Subject, step: str) -> None:
    print(f'{subject.name}: {step}', file=sys.stderr, flush=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the tools and the libraries say away; their errors are raised."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m mmlolvit.benchmark.deployed',
        description='Accuracy, changed predictions, size and speed of trained models: PyTorch, and '
        'ONNX in float32, half precision and 8 bits.',
    )
    add = parser.add_argument
    add('pairs', nargs='+', metavar='CONFIG CKPT', help='config and checkpoint, of each model')
    add('--out', metavar='P', help='write P.json and P.md')
    add('--rounds', type=int, default=15)
    add('--threads', type=int, default=2)
    add(
        '--dynamic',
        nargs='+',
        choices=['batch', 'size'],
        default=[],
        help='as of tools/export_onnx.py; size, where the images of a test set are not of one size',
    )
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for every config')
    args = parser.parse_args(argv)
    if len(args.pairs) % 2:
        parser.error(f'expected pairs of CONFIG and CKPT, got {" ".join(args.pairs)}')
    require_at_least(parser, args, rounds=1, threads=1)
    return args


@exits
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.out:
        check_writable(Path(args.out).parent)
    check_exporter()
    torch.set_num_threads(args.threads)
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    pairs = zip(args.pairs[::2], args.pairs[1::2], strict=True)
    with quiet():
        subjects = [Subject(*pair, options) for pair in pairs]
        measured = []
        for subject in subjects:
            with tempfile.TemporaryDirectory() as folder:
                measured.append(measure(subject, args.dynamic, args.rounds, Path(folder)))
    print(table(measured))
    if args.out:
        arguments = map(hide_argument, sys.argv[1:] if argv is None else argv)
        command = shlex.join(['python', '-m', 'mmlolvit.benchmark.deployed', *arguments])
        where = environment('cpu')
        content = dict(command=command, environment=where, rounds=args.rounds, models=measured)
        write_whole(f'{args.out}.json', json.dumps(content, indent=1) + '\n')
        notes = NOTES.format(rounds=args.rounds)
        parts = [f'`{command}`', describe(where), table(measured), notes]
        write_whole(f'{args.out}.md', '\n\n'.join(parts) + '\n')


if __name__ == '__main__':
    sys.exit(main())
