"""How far a file's images are from the network's, in grey levels."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ganc_nni.core.errors import TrainingError
from ganc_nni.core.memory import is_out_of_memory
from ganc_nni.export.interface import OfBytes
from ganc_nni.export.runtime import quiet, session, short

Array = npt.NDArray[Any]
Runner = Callable[[Array], Array]

GREY_LEVELS = 127.5
"""Of 255, in one unit of an image in [-1, 1]."""

_EPSILON = 2.0**-22
"""Of the largest output of a layer: four units in the last place, as sums of some hundred products lose."""

_DRAWS = 3


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


class Comparison(NamedTuple):
    """How far a file's images are from the network's, image by image, in grey levels of 255.

    Attributes:
        largest: Of all values of an image, ``(N,)``.
        mean: The same, on average.
    """

    largest: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]


def difference(name: str, runner: Runner, network: Runner, inputs: Sequence[Array]) -> Comparison:
    """Run a file and the network that it was made from on the same inputs.

    Args:
        name: What is compared, for errors.
        runner: Of a file.
        network: Of the network that it was made from.
        inputs: Batches; all their images follow each other in the result.

    Raises:
        TrainingError: The file cannot be run, or an output is not finite or of another shape.
    """
    largest, mean = [], []
    for x in inputs:
        wanted = network(x)
        if not np.isfinite(wanted).all():
            raise TrainingError(
                f"{name}: the network's own images are not finite, its training has diverged; train it again with a "
                "smaller learning_rate"
            )
        try:
            found = runner(x)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            shape = " x ".join(map(str, x.shape))
            raise TrainingError(
                f"{name}: cannot be run on an input of {shape}: {short(error)}; not written: leave --dynamic-size out"
            ) from None
        if found.shape != wanted.shape or found.dtype != wanted.dtype or not np.isfinite(found).all():
            raise TrainingError(
                f"{name}: gives {found.dtype} of {found.shape}, all finite: {bool(np.isfinite(found).all())}; expected "
                f"{wanted.dtype} of {wanted.shape}, finite; not written"
            )
        scale = 1.0 if wanted.dtype == np.uint8 else GREY_LEVELS
        apart = scale * np.abs(found.astype(np.float64) - wanted.astype(np.float64)).reshape(len(x), -1)
        largest.append(apart.max(1))
        mean.append(apart.mean(1))
    return Comparison(np.concatenate(largest), np.concatenate(mean))


def rounding(network: nn.Module, inputs: Sequence[Array]) -> npt.NDArray[np.float64]:
    """How far rounding alone moves the network's images: the largest difference of each, grey levels, ``(N,)``.

    The output of every layer is moved at random by what rounding may do to it, as in stochastic arithmetic (Vignes, A
    stochastic arithmetic for reliable scientific computation, 1993); what that changes is what no other runtime can be
    expected to keep. An instance norm over a nearly constant plane divides its rounding errors by their own spread, so
    that the images of an even input may differ by any amount.

    Args:
        network: With its interface, on the CPU, in evaluation mode. Is not changed.
        inputs: Batches.
    """
    inner = network.network if isinstance(network, OfBytes) else network  # bytes are rounded far more coarsely
    found = []
    for x in inputs:
        plain = _image_of(network, inner, x)
        moved = [_image_of(network, inner, x, seed) for seed in range(_DRAWS)]
        apart = torch.stack([(each - plain).abs().flatten(1).amax(1) for each in moved]).amax(0)
        found.append(GREY_LEVELS * apart.double().numpy())
    return np.concatenate(found)


@torch.inference_mode()
def _image_of(network: nn.Module, inner: nn.Module, x: Array, seed: int | None = None) -> Tensor:
    """The image that ``inner`` makes, in [-1, 1]; with a seed, of layers whose outputs are moved at random."""
    images: list[Tensor] = []
    random = torch.Generator()

    def move(module: nn.Module, _: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        size = output.abs().flatten(1).amax(1).reshape(-1, *[1] * (output.ndim - 1))
        return output + _EPSILON * size * (2 * torch.rand(output.shape, generator=random) - 1)

    handles = []
    if seed is not None:
        random.manual_seed(seed)
        leaves = [module for module in inner.modules() if next(module.children(), None) is None]
        handles += [module.register_forward_hook(move) for module in leaves]
    handles.append(inner.register_forward_hook(lambda module, _, output: images.append(output)))
    try:
        network(torch.from_numpy(np.ascontiguousarray(x)))
    finally:
        for handle in handles:
            handle.remove()
    return images[0].clamp(-1, 1)
