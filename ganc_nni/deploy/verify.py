"""How far a file's pictures are from the network's, in grey levels."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ganc_nni.deploy.runtime import quiet, session, short
from ganc_nni.errors import TrainingError

Array = npt.NDArray[Any]
Runner = Callable[[Array], Array]


def onnx_runner(content: bytes, threads: int | None = None) -> Runner:
    """What an ONNX file does to an input, by ONNX Runtime on the CPU."""
    made = session(content, threads or torch.get_num_threads())
    return lambda x: made.run(["output"], {"input": np.ascontiguousarray(x)})[0]


def program_runner(content: bytes) -> Runner:
    """What a ``.pt2`` file does to an input."""
    with quiet():
        program = torch.export.load(io.BytesIO(content)).module()
    return network_runner(program)


def network_runner(network: nn.Module) -> Runner:
    """What a network on the CPU does to an input."""

    def run(x: Array) -> Array:
        with torch.inference_mode():
            return network(torch.from_numpy(np.ascontiguousarray(x))).numpy()

    return run


def difference(name: str, runner: Runner, network: Runner, inputs: Sequence[Array]) -> dict[str, float]:
    """The largest and mean difference of all values of the outputs, in grey levels of 255.

    Args:
        name: What is compared, for errors.
        runner: Of a file.
        network: Of the network that it was made from.
        inputs: Batches.

    Raises:
        TrainingError: The file cannot be run, or an output is not finite or of another shape.
    """
    largest, total, count = 0.0, 0.0, 0
    for x in inputs:
        wanted = network(x)
        if not np.isfinite(wanted).all():
            raise TrainingError(
                f"{name}: the network's own pictures are not finite, its training has diverged; train it again with a "
                "smaller learning_rate"
            )
        try:
            found = runner(x)
        except Exception as error:
            shape = " x ".join(map(str, x.shape))
            raise TrainingError(f"{name}: cannot be run on an input of {shape}: {short(error)}; not written") from None
        if found.shape != wanted.shape or found.dtype != wanted.dtype or not np.isfinite(found).all():
            raise TrainingError(
                f"{name}: gives {found.dtype} of {found.shape}, all finite: {bool(np.isfinite(found).all())}; expected "
                f"{wanted.dtype} of {wanted.shape}, finite; not written"
            )
        scale = 1.0 if wanted.dtype == np.uint8 else 127.5
        apart = scale * np.abs(found.astype(np.float64) - wanted.astype(np.float64))
        largest, total, count = max(largest, float(apart.max())), total + float(apart.sum()), count + apart.size
    return {"largest": largest, "mean": total / count}
