"""A network as an ONNX model in float32.

By torch's exporter that traces: after folding its graph has the same operators as the one of ``dynamo=True``, is ready
in a tenth of the time, needs no further package, and its nodes bear the names of the layers (docs/deploy.md).

The last convolution of a ResNet generator is written as :func:`ganc_nni.core.fast_ops.output_conv` computes it, because
ONNX Runtime fills 3 output channels up to 8, too.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.core.memory import is_out_of_memory
from ganc_nni.export.interface import Interface
from ganc_nni.export.runtime import module, quiet, session, short

OPSETS = (13, 20)
"""The first that quantises by channel, the last that torch's exporter knows."""


def to_onnx(network: nn.Module, example: Tensor, interface: Interface, opset: int) -> Any:
    """The network as an ``onnx.ModelProto``, with any batch size; input ``input``, output ``output``.

    Args:
        network: In evaluation mode, on the CPU, with the interface.
        example: An input.
        interface: Says whether height and width are fixed.
        opset: Version of ONNX's operators.

    Raises:
        InputError: The opset or a layer cannot be exported, or not be run; the message names it.
    """
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise InputError(f"--opset {opset}: expected {OPSETS[0]} to {OPSETS[1]}, which torch's exporter writes")
    first = 1 if interface.as_bytes else 2
    free = {0: "batch", **({first: "height", first + 1: "width"} if interface.dynamic else {})}
    model = _folded(_traced(network, example, opset, {"input": free, "output": free}))
    # what tracing cannot know of the sizes of a SPADE generator's output: they are those of its input
    axes = model.graph.output[0].type.tensor_type.shape.dim
    for axis, name in free.items():
        axes[axis].dim_param = name
    if not interface.dynamic:
        axes[first].dim_value, axes[first + 1].dim_value = interface.size
    return model


def _traced(network: nn.Module, example: Tensor, opset: int, axes: Mapping[str, Mapping[int, str]]) -> bytes:
    module("onnx")

    def attempt(part: nn.Module, inputs: tuple[Any, ...], named: bool) -> bytes:
        names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"], "dynamic_axes": axes}
        buffer: Any = io.BytesIO()  # which the annotations of torch do not know of
        with quiet(), torch.no_grad(), FasterKernels(exported=True):
            torch.onnx.export(part, inputs, buffer, dynamo=False, opset_version=opset, **(names if named else {}))
        return buffer.getvalue()

    try:
        return attempt(network, (example,), True)
    except Exception as error:  # the exporter and whatever layer it traces raise all kinds
        if is_out_of_memory(error):
            raise
        where = _culprit(network, example, lambda part, inputs: attempt(part, inputs, False))
        raise InputError(
            f"{where} cannot be exported to ONNX opset {opset}: {short(error)}; replace it by a layer that can, or "
            "use another --opset"
        ) from None


def _culprit(network: nn.Module, example: Tensor, attempt: Callable[[nn.Module, tuple[Any, ...]], object]) -> str:
    """The innermost layer that cannot be exported by itself, in words."""
    inputs: dict[str, tuple[Any, ...]] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            inputs.setdefault(name, arguments)

        return hook

    modules = dict(network.named_modules())
    handles = [part.register_forward_pre_hook(remember(name)) for name, part in modules.items() if name]
    try:
        with torch.no_grad():
            network(example)
    except Exception as error:
        last = next(reversed(inputs), "")
        return f"layer {last} ({type(modules[last]).__name__}; fails itself: {short(error)})" if last else "the network"
    finally:
        for handle in handles:
            handle.remove()
    for name in sorted(inputs, key=lambda name: -name.count(".")):
        try:
            attempt(modules[name], inputs[name])
        except Exception:
            return f"layer {name} ({type(modules[name]).__name__})"
    return "the network"


def _folded(content: bytes) -> Any:
    """The model without what can be computed beforehand, of which tracing leaves a lot."""
    onnx = module("onnx")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        session(content, folded=str(path))
        model = onnx.load(path)
    used = {node.domain for node in model.graph.node} | {""}
    kept = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def finished(model: Any, metadata: Mapping[str, str]) -> bytes:
    """The model as the content of a file, checked, with ``metadata``.

    Raises:
        InputError: ``onnx.checker`` refuses the model.
    """
    onnx = module("onnx")
    onnx.helper.set_model_props(model, dict(metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker, shape inference and protobuf have types of their own
        raise InputError(f"onnx.checker refuses the model: {short(error)}; use another --opset") from None
    return model.SerializeToString()
