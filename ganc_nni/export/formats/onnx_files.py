"""ONNX files in three precisions."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

from ganc_nni.core.errors import InputError
from ganc_nni.export.formats.registry import Format, register_format
from ganc_nni.export.graph import finished
from ganc_nni.export.quantise import to_fp16, to_int8
from ganc_nni.export.verify import Runner, onnx_runner

if TYPE_CHECKING:
    from ganc_nni.export.files import Deployable


@register_format("onnx")
class Onnx(Format):
    """Weights and arithmetic in float32."""

    suffix = ".onnx"
    limit: ClassVar[float | None] = 0.1
    has_opset = True

    def model(self, network: Deployable) -> Any:
        """The ``onnx.ModelProto`` to write."""
        return copy.deepcopy(network.model)

    def write(self, network: Deployable) -> bytes:
        """See :class:`Format`."""
        return finished(self.model(network), network.metadata)

    def runner(self, content: bytes) -> Runner:
        """See :class:`Format`."""
        return onnx_runner(content)


@register_format("fp16")
class Fp16(Onnx):
    """Weights and arithmetic in fp16, input and output in float32; half the size."""

    suffix = ".fp16.onnx"
    limit = None

    def model(self, network: Deployable) -> Any:
        """See :class:`Onnx`."""
        return to_fp16(network.model)


@register_format("int8")
class Int8(Onnx):
    """Inner dense convolutions in int8, calibrated on training images."""

    suffix = ".int8.onnx"
    limit = None
    scored = True

    def model(self, network: Deployable) -> Any:
        """See :class:`Onnx`."""
        if network.calibration is None:
            raise InputError("int8: no training images to calibrate on; give some, or leave int8 out")
        return to_int8(network.model, network.calibration())
