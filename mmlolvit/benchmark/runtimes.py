"""Ways to run a model, as calls without arguments, and how long such a call takes."""

import copy
import importlib.util
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .memory import peak_memory
from .models import Subject

LAYOUTS = dict(contiguous=torch.contiguous_format, channels_last=torch.channels_last)
PRECISIONS = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
MODES = ('inference', 'training')


class Prepared(NamedTuple):
    """A model that is ready to run.

    Attributes:
        run: Runs it once.
        layout: Memory layout of its maps; '-' where the runtime chooses.
        memory: Bytes of its weights and of what a run holds beyond them at most, or None where the
            system does not tell.
    """

    run: Callable[[], object]
    layout: str
    memory: int | None


def eager(subject: Subject, x: Tensor, precision: str, training: bool) -> Prepared:
    """PyTorch as it is, in the faster of the two memory layouts."""
    make = _step if training else _inference
    best = None
    for layout, form in LAYOUTS.items():
        run = make(subject, x, precision, form)
        run()
        seconds = min(timed(run, x.device) for _ in range(3))
        if best is None or seconds < best[0]:
            best = seconds, run, layout
    _, run, layout = best
    subject.net.to(memory_format=LAYOUTS[layout])  # a step shares its net with the other layout's
    return Prepared(run, layout, _memory(run, subject.net, x))


def compiled(subject: Subject, x: Tensor, precision: str, training: bool) -> Prepared:
    """torch.compile; it chooses the layouts, given channels-last, and for inference freezes."""
    from torch._inductor import config

    if training:
        subject.net.compile(dynamic=False)
        run = _step(subject, x, precision, torch.channels_last)
    else:
        run = _inference(subject, x, precision, torch.channels_last, compile=True)
    # As an option of compile() it would come too late: Dynamo asks for it while it traces.
    with config.patch(freezing=not training):
        run()
    return Prepared(run, '-', _memory(run, subject.net, x))


def cudagraph(subject: Subject, x: Tensor, precision: str, training: bool) -> Prepared:
    """PyTorch's kernels, launched together as a CUDA graph."""
    net = copy.deepcopy(subject.net).to(x.device, memory_format=torch.channels_last)
    image = x.to(memory_format=torch.channels_last)
    # Autocast would free the weights that it cast and kept, and the graph go on to read them.
    with torch.no_grad(), _autocast(x, precision, cache_enabled=False):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                net(image)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = net(image)

    def run() -> object:
        graph.replay()
        return answer

    return Prepared(run, 'channels_last', None)


def onnxruntime(subject: Subject, x: Tensor, precision: str, training: bool) -> Prepared:
    """ONNX Runtime's CPU provider; it chooses the memory layout."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # A session's idle threads would otherwise spin into the next model's turn.
    options.add_session_config_entry('session.force_spinning_stop', '1')

    def load(path: str) -> Callable:
        session = ort.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        feed = {session.get_inputs()[0].name: x.numpy()}
        return lambda: session.run(None, feed)

    return _from_onnx(subject, x, load)


def openvino(subject: Subject, x: Tensor, precision: str, training: bool) -> Prepared:
    """OpenVINO's CPU plugin, from the same ONNX file as ONNX Runtime; float32, for latency."""
    import openvino as ov

    settings = dict(
        INFERENCE_NUM_THREADS=torch.get_num_threads(),
        INFERENCE_PRECISION_HINT='f32',
        PERFORMANCE_HINT='LATENCY',
    )

    def load(path: str) -> Callable:
        request = ov.Core().compile_model(path, 'CPU', settings).create_infer_request()
        image = x.numpy()
        return lambda: request.infer([image], share_inputs=True, share_outputs=True)

    return _from_onnx(subject, x, load)


RUNTIMES = dict(
    eager=eager,
    compile=compiled,
    cudagraph=cudagraph,
    onnxruntime=onnxruntime,
    openvino=openvino,
)
EXPORTED = ('onnxruntime', 'openvino')


def missing(runtime: str, device: str) -> str | None:
    """What is not installed for a runtime, and the command that mends it; None if nothing."""
    if runtime == 'compile' and device == 'cpu' and not shutil.which(os.environ.get('CXX', 'g++')):
        return 'torch.compile on a CPU needs a C++ compiler: install g++, or set CXX to another'
    if runtime not in EXPORTED:
        return None
    for name in ('onnx', 'onnxscript', 'onnxruntime', 'openvino')[: 3 + (runtime == 'openvino')]:
        if importlib.util.find_spec(name) is None:
            command = 'openvino' if name == 'openvino' else '-r requirements/benchmark.txt'
            return f'{name} is not installed: pip install {command}'
    return None


def refuse(runtime: str, device: str, precision: str, mode: str) -> str | None:
    """Why a runtime does not run a model in this way; None if it does."""
    if runtime in EXPORTED and (device, precision, mode) != ('cpu', 'fp32', 'inference'):
        return f'{runtime} is measured on a CPU, in fp32, for inference'
    if runtime == 'cudagraph' and (device, mode) != ('cuda', 'inference'):
        return 'cudagraph is measured on CUDA, for inference'
    if mode == 'training' and precision == 'fp16':
        return 'training is measured in fp32 and bf16'
    return None


def timed(run: Callable, device: torch.device) -> float:
    """Seconds that a call takes; on CUDA between two events on its stream."""
    if device.type != 'cuda':
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3


def _autocast(x: Tensor, precision: str, **options) -> torch.autocast:
    dtype = PRECISIONS[precision]
    return torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32, **options)


def _inference(
    subject: Subject,
    x: Tensor,
    precision: str,
    layout: torch.memory_format,
    compile: bool = False,
) -> Callable:
    net = copy.deepcopy(subject.net).to(x.device, memory_format=layout)
    image = x.to(memory_format=layout)
    if compile:
        net.compile(dynamic=False)
    without_grad = torch.no_grad if compile else torch.inference_mode

    def run() -> object:
        with without_grad(), _autocast(x, precision):
            return net(image)

    return run


def _step(subject: Subject, x: Tensor, precision: str, layout: torch.memory_format) -> Callable:
    """Forward, backward and AdamW."""
    net = subject.net.to(x.device, memory_format=layout)
    image = x.to(memory_format=layout)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)

    def run() -> None:
        with _autocast(x, precision):
            loss = subject.loss(image)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def _memory(run: Callable, net: nn.Module, x: Tensor) -> int | None:
    beyond = peak_memory(run, x.device)
    if beyond is None:
        return None
    return beyond + sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))


def _from_onnx(subject: Subject, x: Tensor, load: Callable[[str], Callable]) -> Prepared:
    # The exporter over torch.export matured in PyTorch 2.6; older ones trace the model.
    exporter = dict(dynamo=True, external_data=False) if torch.__version__ >= '2.6' else {}
    runs = []

    def load_and_run() -> None:
        runs[:] = [load(path)]
        runs[0]()

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        path = os.path.join(folder, 'model.onnx')
        torch.onnx.export(subject.net, (x,), path, verbose=False, **exporter)
        load_and_run()  # the first one loads libraries too
        runs.clear()
        memory = peak_memory(load_and_run, x.device)
    return Prepared(runs[0], '-', memory)
