"""Speed of backbones side by side: interleaved rounds, medians, both sides in their best form."""

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..cli.common import exits
from ..errors import UserError
from .rivals import build

LAYOUTS = dict(contiguous=torch.contiguous_format, channels_last=torch.channels_last)


def eager(model: nn.Module, x: Tensor) -> dict[str, Callable]:
    """A run of the model per memory layout."""

    def in_layout(layout: torch.memory_format) -> Callable:
        net, image = copy.deepcopy(model).to(memory_format=layout), x.to(memory_format=layout)
        return torch.inference_mode()(lambda: net(image))

    return {name: in_layout(layout) for name, layout in LAYOUTS.items()}


def onnxruntime(model: nn.Module, x: Tensor) -> dict[str, Callable]:
    """A run of the exported model; ONNX Runtime chooses the memory layout itself."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # A session's idle threads would otherwise spin into the next model's turn.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    # The exporter over torch.export matured in PyTorch 2.6; older ones trace the model.
    exporter = dict(dynamo=True, external_data=False) if torch.__version__ >= '2.6' else {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        path = os.path.join(folder, 'model.onnx')
        torch.onnx.export(model, (x,), path, verbose=False, **exporter)
        session = ort.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return {'-': lambda: session.run(None, feed)}


RUNTIMES = dict(eager=eager, onnxruntime=onnxruntime)


def measure(runs: dict, rounds: int) -> dict:
    """Median seconds of each run, over rounds that take them in turn.

    A turn is two runs of which the second counts, so that nobody pays for the caches that the
    model before left behind.
    """
    times = {key: [] for key in runs}
    for i in range(rounds + 2):
        for key, run in runs.items():
            run()
            start = time.perf_counter()
            run()
            if i >= 2:
                times[key].append(time.perf_counter() - start)
    return {key: statistics.median(values) for key, values in times.items()}


def compare(names: list[str], runtime: str, batch: int, size: int, rounds: int) -> dict:
    """Median seconds and layout per name, each in its better memory layout."""
    x = torch.randn(batch, 3, size, size)
    runs = {}
    for name in names:
        for layout, run in RUNTIMES[runtime](build(name), x).items():
            runs[name, layout] = run
    best = {}
    for (name, layout), seconds in measure(runs, rounds).items():
        best[name] = min(best.get(name, (float('inf'), '')), (seconds, layout))
    return best


@exits
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='+', help='the first is what the others are compared with')
    parser.add_argument('--runtimes', nargs='+', choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument('--batches', nargs='+', type=int, default=[1, 16])
    parser.add_argument('--size', type=int, default=256, help='side of the image, in pixels')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    for runtime in args.runtimes:
        for batch in args.batches:
            try:
                best = compare(args.names, runtime, batch, args.size, args.rounds)
            except ImportError as error:
                raise UserError(
                    f'{error.name} is not installed: pip install -r requirements/benchmark.txt'
                ) from error
            base = best[args.names[0]][0]
            print(f'| {runtime}, batch {batch} | ms / image | layout | times {args.names[0]} |')
            print('|---|---|---|---|')
            for name, (seconds, layout) in best.items():
                ms = seconds / batch * 1e3
                print(f'| {name} | {ms:.2f} | {layout} | {base / seconds:.2f} |')
            print(flush=True)


if __name__ == '__main__':
    sys.exit(main())
