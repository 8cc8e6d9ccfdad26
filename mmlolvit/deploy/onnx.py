"""Models as ONNX files: exported with their metadata, and run with the interface of a model."""

import copy
import importlib.util
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..errors import UserError
from ..registry import MODELS
from .fuse import fuse
from .graphs import (
    GRAPHS,
    Normalized,
    SegmentLogits,
    free_sizes,
    mean_and_std,
    swaps_channels,
)

OPSET = 18
BATCH, HEIGHT, WIDTH = 'batch', 'height', 'width'
INPUT = 'image'
NEEDED = '{} is not installed: pip install -r requirements/benchmark.txt'


def export_onnx(
    model: nn.Module,
    graph: type[nn.Module],
    path: Path,
    size: tuple[int, int],
    dynamic: Sequence[str] = (),
    normalize: bool = True,
    metadata: dict | None = None,
) -> None:
    """Write a model of a task library as one ONNX file, from the image to the final answer.

    What it takes and gives is in `mmlolvit.deploy.graphs`.

    Args:
        model (nn.Module): With its data preprocessor; it stays as it is.
        graph (type): What is exported of it, one of `mmlolvit.deploy.graphs`.
        path (Path): Of the file.
        size (tuple[int]): Height and width of the image.
        dynamic (Sequence[str]): 'batch' and 'size', what may differ from one image of ``size``.
        normalize (bool): Put the data preprocessor's channel order, mean and std into the graph.
        metadata (dict, optional): Written into the file, values as JSON.

    Raises:
        UserError: On a model that has no graph, and on a torch that cannot export.
    """
    check_exporter()
    import onnx

    model = fuse(copy.deepcopy(model))
    shapes = {}
    if 'batch' in dynamic:
        shapes[0] = BATCH
    if 'size' in dynamic:
        free_sizes(model)
        shapes |= {2: HEIGHT, 3: WIDTH}
    net = graph(model)
    if normalize:
        net = Normalized(net, model.data_preprocessor)
    # torch.export takes an example's sides of 1 for constants.
    image = torch.rand(2 if 'batch' in dynamic else 1, 3, *size)
    with torch.no_grad(), warnings.catch_warnings(), _refusals():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            net.eval(),
            (image,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(net.outputs),
            dynamic_shapes=(shapes or None,),
            custom_translation_table={torch.ops.mmlolvit.suppress.default: _suppress},
        )
    proto = program.model_proto
    _forget(proto.graph)
    for name, value in (metadata or {}).items():
        proto.metadata_props.add(key=name, value=json.dumps(value))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def check_exporter() -> None:
    """Raise UserError where nothing can be exported."""
    if torch.__version__ < '2.6':
        raise UserError(f'export needs torch 2.6 or newer, found {torch.__version__}')
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        if importlib.util.find_spec(name) is None:
            raise UserError(NEEDED.format(name))


def _forget(graph) -> None:
    """Drop the notes of the exporter, which name files of this machine, except a node's module."""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.value_info):
        notes = [note for note in part.metadata_props if note.key == 'namespace']
        del part.metadata_props[:]
        part.metadata_props.extend(notes)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what torch's exporter refuses into a UserError."""
    try:
        yield
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(f"torch's exporter refuses the model at this size: {reason}") from error


def open_model(path: str) -> 'onnxruntime.InferenceSession':  # noqa: F821
    """A session of ONNX Runtime on the CPU, with as many threads as PyTorch has."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(NEEDED.format(error.name)) from error
    if not Path(path).is_file():
        raise UserError(f'model {path} does not exist')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Its idle threads would otherwise spin into the turn of whatever runs next.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    try:
        return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        raise UserError(f'{path} is no model that ONNX Runtime reads: {error}') from error


def read_metadata(session) -> dict:
    """What `export_onnx` wrote into the file."""
    properties = session.get_modelmeta().custom_metadata_map
    try:
        return {key: json.loads(value) for key, value in properties.items()}
    except (ValueError, RecursionError):
        return {}


def open_exported(path: str) -> tuple['onnxruntime.InferenceSession', dict, type[nn.Module]]:  # noqa: F821
    """A session, the metadata and the graph of what tools/export_onnx.py wrote.

    Raises UserError where something else did.
    """
    session = open_model(path)
    metadata = read_metadata(session)
    task, classes = metadata.get('task'), metadata.get('classes')
    inputs = [(image.name, image.type, len(image.shape)) for image in session.get_inputs()]
    outputs = [output.name for output in session.get_outputs()]
    graph = SegmentLogits if task == 'mmseg' and outputs == ['logits'] else GRAPHS.get(str(task))
    fits = (
        graph is not None
        and outputs == list(graph.outputs)
        and inputs == [(INPUT, 'tensor(float)', 4)]
        and (shape := session.get_inputs()[0].shape)[1] == 3
        and 0 not in shape
        and isinstance(classes, list)
        and all(isinstance(name, str | int) for name in classes)
        and isinstance(metadata.get('normalized_inside'), bool)
        and isinstance(metadata.get('align_corners', False), bool)
    )
    if not fits:
        raise UserError(f'{path} was not made by tools/export_onnx.py: export the checkpoint again')
    return session, metadata, graph


def check_size(session, images: Tensor) -> None:
    """Raise UserError where a file takes images of another size than (B, 3, H, W)."""
    size = session.get_inputs()[0].shape[2:]
    if any(isinstance(n, int) and n != m for n, m in zip(size, images.shape[2:], strict=True)):
        raise UserError(
            f'the model takes images of {size[0]} x {size[1]}, got {images.shape[2]} x '
            f'{images.shape[3]}; export it with --size, or with --dynamic size'
        )


def run(session, images: Tensor) -> list[Tensor]:
    """Outputs for images (B, 3, H, W), in parts where the file takes another number of them.

    Raises UserError where it takes another size.
    """
    check_size(session, images)
    batch = session.get_inputs()[0].shape[0]
    step = batch if isinstance(batch, int) else len(images)
    parts = []
    for part in images.split(step):
        missing = step - len(part)
        part = torch.cat((part, part[:1].expand(missing, -1, -1, -1))) if missing else part
        outputs = session.run(None, {INPUT: part.contiguous().numpy()})
        parts.append([torch.from_numpy(output[: step - missing]) for output in outputs])
    return [torch.cat(outputs) for outputs in zip(*parts, strict=True)]


@MODELS.register_module()
class OnnxModel(BaseModel):
    """An exported model, with the interface of the one that it was made of; it predicts only.

    Args:
        file (str): What `tools/export_onnx.py` wrote.
        data_preprocessor (dict, optional): The config's.

    Raises:
        UserError: On a file that is missing, that ONNX Runtime does not read or that is another's.
    """

    def __init__(self, file: str, data_preprocessor: dict | None = None):
        super().__init__(data_preprocessor)
        self.session, self.metadata, self.graph = open_exported(file)
        self.options = {k: v for k, v in self.metadata.items() if k == 'align_corners'}

    def __deepcopy__(self, memo: dict) -> 'OnnxModel':
        return self  # for the EMA of a config, which has nothing to average here

    def forward(self, inputs: Tensor, data_samples: list, mode: str = 'predict') -> list:
        if mode != 'predict':
            raise NotImplementedError(f'an exported model only predicts, got mode {mode!r}')
        if self.metadata['normalized_inside']:
            inputs = unnormalize(inputs, self.data_preprocessor)
        outputs = run(self.session, inputs.cpu())
        for sample, *values in zip(data_samples, *outputs, strict=True):
            self.graph.answer(sample, *values, **self.options)
        return data_samples


class FitSize:
    """The last transform before an exported model: raises UserError on an image of another size."""

    def __init__(self, model: OnnxModel):
        self.model = model

    def __call__(self, data: dict) -> dict:
        inputs = self.model.data_preprocessor(pseudo_collate([data]))['inputs']
        check_size(self.model.session, inputs)
        return data


def use_exported(cfg: Config, file: str) -> None:
    """Put an exported model in the place of the config's; raises UserError if it is another's."""
    task = open_exported(file)[1]['task']
    if task != cfg.default_scope:
        raise UserError(f'{file} was made for {task}, but the config is for {cfg.default_scope}')
    preprocessor = dict(cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {})
    if task == 'mmpretrain':  # whose classifiers choose the type
        preprocessor.setdefault('type', 'ClsDataPreprocessor')
    cfg.model = dict(type='mmlolvit.OnnxModel', file=file, data_preprocessor=preprocessor or None)


def unnormalize(images: Tensor, preprocessor: nn.Module) -> Tensor:
    """Images as they were read, BGR from 0 to 255, from a data preprocessor's."""
    mean, std = mean_and_std(preprocessor)
    images = images * std + mean
    return images.flip(1) if swaps_channels(preprocessor) else images


def _suppress(boxes, scores, iou_threshold: float, most: int):
    """`mmlolvit::suppress` in ONNX operators."""
    from onnxscript import opset18 as op

    chosen = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[most]),
        op.Constant(value_float=iou_threshold),
        op.Constant(value_float=0.0),
    )  # (chosen, 3): image, class, box
    places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(op.Constant(value_float=1.0), op.Shape(chosen, end=1))
    zeros = op.Mul(scores, op.Constant(value_float=0.0))
    return op.Cast(op.ScatterND(zeros, places, ones), to=9)
