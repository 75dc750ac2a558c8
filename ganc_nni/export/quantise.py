"""An ONNX model in lower precision: fp16, and int8 by ONNX Runtime's static quantisation."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganc_nni.core.errors import InputError
from ganc_nni.core.memory import is_out_of_memory
from ganc_nni.export.runtime import module, quiet, short

Array = npt.NDArray[Any]


def to_fp16(model: Any) -> Any:
    """The model with weights and arithmetic in fp16; its input and output stay as they are.

    Raises:
        InputError: A node cannot be converted.
    """
    float16 = module("onnxruntime.transformers.float16")
    tools = module("onnxruntime.transformers.onnx_model")
    try:
        with quiet():
            converted = float16.convert_float_to_float16(copy.deepcopy(model), keep_io_types=True)
            tools.OnnxModel.graph_topological_sort(converted.graph)  # the cast of the input comes last
            return converted
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"fp16: the model cannot be converted: {short(error)}; leave fp16 out of --formats") from None


def to_int8(model: Any, calibration: Iterable[Array]) -> Any:
    """The model with its inner dense convolutions in int8, between ``QuantizeLinear`` and ``DequantizeLinear``.

    Activations: uint8, one scale a tensor, from the smallest and largest values of each calibration input, averaged.
    Weights: int8, one scale an output channel, in 7 bits, because processors without VNNI add two products in 16 bits.
    The first, the last and the depthwise convolutions stay in float32: it brings the images closer (docs/deploy.md).

    Args:
        model: In float32.
        calibration: Inputs of the model.

    Raises:
        InputError: No inputs, nothing to quantise, or the quantiser fails.
    """
    tools = module("onnxruntime.quantization")
    dense = [node.name for node in model.graph.node if node.op_type == "Conv" and not _grouped(node)]
    chosen = _between_first_and_last(model, dense)
    if not chosen:
        raise InputError("int8: the network has no inner convolution to quantise; leave int8 out of --formats")
    reader = _Reader(calibration)
    try:
        with tempfile.TemporaryDirectory() as folder, quiet():
            path = Path(folder) / "int8.onnx"
            tools.quantize_static(
                copy.deepcopy(model),
                path,
                reader,
                quant_format=tools.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=chosen,
                per_channel=True,
                reduce_range=True,
                activation_type=tools.QuantType.QUInt8,
                weight_type=tools.QuantType.QInt8,
                calibrate_method=tools.CalibrationMethod.MinMax,
                extra_options={"CalibMovingAverage": True},
            )
            return module("onnx").load(path)
    except InputError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"int8: the model cannot be quantised: {short(error)}; leave int8 out of --formats") from None


def _grouped(node: Any) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


def _between_first_and_last(model: Any, names: list[str]) -> list[str]:
    convolutions = [node.name for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    return [name for name in names if name not in (convolutions[0], convolutions[-1])]


class _Reader:
    """What the quantiser reads its inputs from; it asks for this one method."""

    def __init__(self, inputs: Iterable[Array]) -> None:
        self._inputs: Iterator[Array] = iter(inputs)

    def get_next(self) -> dict[str, Array] | None:
        found = next(self._inputs, None)
        return None if found is None else {"input": np.ascontiguousarray(found)}
