"""ONNX files in half precision."""

import re
from pathlib import Path

from ..errors import UserError
from .onnx import INPUT

# The modules of the model itself; what `mmlolvit.deploy.graphs` puts around them is of no module.
OF_THE_MODEL = re.compile(r'/(inner\.)?model[.:]')


def halve(source: Path, target: Path) -> None:
    """Write an exported model with weights and activations of the model in half precision.

    Normalisation, decoding and suppression stay float32, and so does what is taken and given. Half
    precision has 11 bits: from 1024 px on it knows whole pixels alone. Sizes that the graph
    computes stay as they are: it ends at 65504, which the area of a map may pass.

    Raises:
        UserError: On a file that does not say which nodes are the model's.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.shape_inference.infer_shapes(onnx.load(source))
    graph = model.graph
    halved = find_halved(graph)
    if not halved:
        raise UserError(f'nothing to halve: {source.name} does not say which nodes are the model')
    # The converter rounds every float32 tensor that it knows of, also between nodes that it is to
    # leave alone: it may only know those that the halved ones touch.
    touched = {
        name for node in graph.node if node.name in halved for name in (*node.input, *node.output)
    } - {weight.name for weight in graph.initializer}
    ends = graph.input, graph.output
    whole = [list(field) for field in ends]
    for field in (graph.value_info, *ends):
        known = [info for info in field if info.name in touched]
        del field[:]
        field.extend(known)
    convert_float_to_float16(
        model,
        keep_io_types=[info.name for field in ends for info in field],
        disable_shape_infer=True,
        op_block_list=[],
        node_block_list=[node.name for node in graph.node if node.name not in halved],
    )
    for field, infos in zip(ends, whole, strict=True):
        del field[:]
        field.extend(infos)
    OnnxModel.graph_topological_sort(graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def find_halved(graph: 'onnx.GraphProto') -> set[str]:  # noqa: F821
    """Names of the nodes inside the modules of the model that compute on the image's pixels."""
    pixels, inside, halved = {INPUT}, set(), set()
    for node in graph.node:
        module = ''.join(note.value for note in node.metadata_props if note.key == 'namespace')
        # Of nodes that it makes of several, the exporter does not say where they come from.
        if OF_THE_MODEL.search(module) or (not module and not inside.isdisjoint(node.input)):
            inside.update(node.output)
        if node.op_type != 'Shape' and not pixels.isdisjoint(node.input):
            pixels.update(node.output)
            if node.output[0] in inside:
                halved.add(node.name)
    return halved
