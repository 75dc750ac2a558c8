"""Operations that torch computes slowly on a CPU, or wrongly, computed otherwise: the same up to rounding.

The networks keep torch's own layers; inside :class:`FasterKernels` these take the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganc_nni.core.torch_functions import FunctionMode


class FasterKernels(FunctionMode):
    """A context, of the thread that enters it, in which images take the ways below: convolutions of float32 on a CPU.

    Backward passes are outside of it, and what is computed there again.

    Args:
        exported: For a graph that another runtime computes: only the last convolution goes its own way. Such runtimes
            know instance norms and wide convolutions as single operators.
    """

    def __init__(self, exported: bool = False) -> None:
        super().__init__()
        self.exported = exported

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """See the base class."""
        if function is F.instance_norm and not self.exported and _is_batch(*arguments) and _of_the_image(**options):
            return instance_norm(arguments[0], options["eps"], options.get("weight"), options.get("bias"))
        if function is F.conv2d and not options and _exact(arguments[0]) and _plain(*arguments[3:]):
            if _narrows(arguments[1]):
                return output_conv(*arguments[:3])
            if not self.exported and _is_wide(*arguments[:2]):
                return wide_conv(*arguments[:3])
        return function(*arguments, **options)


def instance_norm(x: Tensor, eps: float = 1e-5, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Each channel of each image of ``N x C x H x W`` brought to mean 0, variance 1, then to its scale and shift.

    As groups of one channel: on a CPU torch's group norm takes less than half the time of its instance norm
    (benchmarks/kernels.py), whose gradient besides is wrong for a batch of 1 in channels_last (torch 2.11).
    """
    weight, bias = (None if each is None else each.to(x.dtype) for each in (weight, bias))
    if torch.is_autocast_enabled(x.device.type):  # CUDA's would return float32 for half precision
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, x.shape[1], weight, bias, eps)
    return F.group_norm(x, x.shape[1], weight, bias, eps)


def output_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution of ``N x C x H x W`` with ``weight``, ``out x C x k x k``, without padding.

    Each column of the kernel becomes channels of its own, and what belongs to a column is moved and added up after.
    oneDNN fills up channels to 8 at least, so 3 of 7x7 cost it as much as 8, while 7 x 3 of 7x1 fit
    (benchmarks/kernels.py).
    """
    channels, _, _, columns = weight.shape
    parts = F.conv2d(x, weight.permute(3, 0, 1, 2).flatten(0, 1)[..., None])
    first, *others = parts.split(channels, dim=1)
    y = first[..., : 1 - columns or None]
    if bias is not None:
        y = y + bias[:, None, None]
    for column, part in enumerate(others, 1):
        y = y + part[..., column : column + 1 - columns or None]
    return y


def wide_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution of ``N x C x H x W`` with ``weight``, ``out x C x 3 x 3``, without padding.

    Lavin and Gray's F(4x4, 3x3) (arXiv 1509.09308, section 4.3): 36 multiplications where 144 are needed. Its rounding
    error is two to four times that of the sum of products.
    """
    y: Tensor = _WideConv.apply(x, weight)
    return y if bias is None else y + bias[:, None, None]


class _WideConv(torch.autograd.Function):
    """Both gradients are computed tile by tile as well: what is multiplied for ``y`` is multiplied for them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolved(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _convolved(F.pad(gradient, (2,) * 4), weight.flip(2, 3).transpose(0, 1))
        if ctx.needs_input_grad[1]:
            to_weight = _correlated(x, gradient)
        return to_x, to_weight


TILE = 4
"""Height and width of what one tile of a wide convolution puts out, pixels."""

AT_ONCE = 256
"""Tiles that are multiplied at once, about: as many as the caches hold (benchmarks/kernels.py)."""


def _convolved(x: Tensor, weight: Tensor) -> Tensor:
    """``N x C x H x W`` with ``out x C x 3 x 3``."""
    of_input, of_weight, of_output = _transforms(x.dtype)
    outputs = len(weight)
    kernel = (of_weight @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, outputs, -1)
    tiles = _tiles(x, TILE + 2)
    images, _, rows, columns = tiles.shape[:4]
    y = x.new_empty(images, outputs, rows, TILE, columns, TILE)
    for part in _parts(tiles):
        of_part = of_output @ torch.bmm(kernel, _transformed(tiles[part], of_input)).view(36, -1)
        in_y = y[part]
        shape = (TILE, TILE, outputs, in_y.shape[0], in_y.shape[2], columns)
        in_y.copy_(of_part.view(shape).permute(3, 2, 4, 0, 5, 1))
    return y.view(images, outputs, TILE * rows, TILE * columns)[..., : x.shape[2] - 2, : x.shape[3] - 2]


def _correlated(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of the weight, ``out x C x 3 x 3``: what :func:`_convolved` does, backwards."""
    of_input, of_weight, of_output = _transforms(x.dtype)
    tiles, others = _tiles(x, TILE + 2), _tiles(gradient, TILE)
    kernel = x.new_zeros(36, gradient.shape[1], x.shape[1])
    for part in _parts(tiles):
        of_x = _transformed(tiles[part], of_input)
        kernel.baddbmm_(_transformed(others[part], of_output.t()), of_x.transpose(1, 2))
    return (of_weight.t() @ kernel.view(36, -1)).view(3, 3, *kernel.shape[1:]).permute(2, 3, 0, 1)


def _tiles(x: Tensor, side: int) -> Tensor:
    """The tiles of ``N x C x H x W``: ``N x C x rows x columns x side x side``."""
    height, width = x.shape[2:]
    x = F.pad(x, (0, (side - width) % TILE, 0, (side - height) % TILE))
    return x.unfold(2, side, TILE).unfold(3, side, TILE)


def _parts(tiles: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Which tiles are multiplied at once: several images, or some rows of one."""
    images, _, rows, columns = tiles.shape[:4]
    together, high = max(1, AT_ONCE // (rows * columns)), max(1, AT_ONCE // columns)
    for first in range(0, images, together):
        for top in range(0, rows, high):
            yield slice(first, first + together), slice(None), slice(top, top + high)


def _transformed(tiles: Tensor, transform: Tensor) -> Tensor:
    """Each of the tiles ``N x C x rows x columns x side x side`` taken to 36 numbers: ``36 x C x tiles``."""
    pixels = tiles.permute(4, 5, 1, 0, 2, 3).reshape(transform.shape[1], -1)
    return (transform @ pixels).view(36, tiles.shape[1], -1)


@cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's B^T, G and A^T, each for rows and columns at once: 36 x 36, 36 x 9 and 16 x 36."""
    of_input = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]]
    of_input += [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
    of_weight = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
    of_output = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    # the cache outlives the caller's mode, and tensors that are made in inference mode are refused elsewhere
    with torch.inference_mode(False):
        scaled = ((of_input, 1), (of_weight, 24), (of_output, 1))
        matrices = [torch.tensor(rows, dtype=torch.float64) / scale for rows, scale in scaled]
        first, second, third = (torch.kron(matrix, matrix).to(dtype) for matrix in matrices)
    return first, second, third


def _is_batch(x: Tensor) -> bool:
    """Whether it is a batch of images of more than one pixel, which torch refuses to norm."""
    return x.ndim == 4 and x.shape[2:].numel() > 1


def _exact(x: Tensor) -> bool:
    """Whether it is a float32 batch on a CPU; in bfloat16 the parts of a sum would be rounded one by one."""
    on_cpu = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return _is_batch(x) and on_cpu


def _of_the_image(*, use_input_stats: bool, **others: Any) -> bool:
    """Whether an instance norm uses the statistics of the image and no others."""
    return use_input_stats and others.get("running_mean") is None


def _plain(*geometry: Any) -> bool:
    """Whether stride, padding, dilation and groups, as far as they are given, are those of a plain convolution."""
    return all(given in (usual, (usual, usual)) for given, usual in zip(geometry, (1, 0, 1, 1), strict=False))


def _narrows(weight: Tensor) -> bool:
    """Whether a large kernel makes few channels."""
    return weight.shape[0] <= 4 and min(weight.shape[2:]) >= 5


def _is_wide(x: Tensor, weight: Tensor) -> bool:
    """Whether multiplications are most of the work; smaller ones gain nothing (benchmarks/kernels.py)."""
    pixels = len(x) * x.shape[2:].numel()
    return weight.shape[2:] == (3, 3) and min(weight.shape[:2]) >= 192 and pixels >= 64 * 64
