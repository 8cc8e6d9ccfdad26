"""ONNX files in 8 bits, calibrated on images."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from .onnx import INPUT

QUANTIZED = ('Conv', 'Gemm', 'MatMul')  # the rest, decoding and suppression too, stays float32


def quantize(source: Path, target: Path, images: Iterable[Tensor]) -> None:
    """Write an exported model with 8-bit weights and activations of its products.

    Static quantisation of ONNX Runtime: weights per channel, activations by the smallest and
    largest value that they take on the images, each (1, 3, H, W).
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = iter(images)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {INPUT: image.numpy()}

    prepared = target.with_suffix('.prepared.onnx')
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        op_types_to_quantize=list(QUANTIZED),
    )
    model = onnx.load(target)
    onnx.helper.set_model_props(  # which the preparation drops
        model, {item.key: item.value for item in onnx.load(source).metadata_props}
    )
    onnx.save(model, target)
