"""Two operations that torch computes slowly on a CPU, computed otherwise: the same but for rounding.

The networks keep torch's own layers; inside :class:`FasterKernels` these take the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class FasterKernels(TorchFunctionMode):
    """A context, of the thread that enters it, in which float32 pictures on a CPU take the ways below.

    Args:
        norms: Whether instance norms do too.
    """

    def __init__(self, norms: bool = True) -> None:
        super().__init__()
        self.norms = norms

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        options = options or {}
        if self.norms and function is F.instance_norm and _suits(*arguments) and _of_the_picture(**options):
            return instance_norm(arguments[0], options["eps"])
        if function is F.conv2d and not options and _suits(arguments[0]) and _narrows(*arguments[1:]):
            return output_conv(*arguments[:3])
        return function(*arguments, **options)


def instance_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Each channel of each picture of ``N x C x H x W`` brought to mean 0 and variance 1.

    As groups of one channel: torch's group norm takes less than half the time of its instance norm
    (benchmarks/kernels.py).
    """
    return F.group_norm(x, x.shape[1], eps=eps)


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


def _suits(x: Tensor) -> bool:
    """Whether it is a float32 batch on a CPU; in bfloat16 the parts of a sum would be rounded one by one."""
    picture = x.dtype == torch.float32 and x.ndim == 4 and x.shape[2:].numel() > 1  # torch refuses to norm one pixel
    return picture and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _of_the_picture(*, use_input_stats: bool, momentum: float, eps: float, **tensors: Tensor | None) -> bool:
    """Whether an instance norm uses the statistics of the picture and nothing else."""
    return use_input_stats and all(tensor is None for tensor in tensors.values())


def _narrows(weight: Tensor, bias: Tensor | None = None, *geometry: Any) -> bool:
    """Whether a large kernel makes few channels, at every pixel and without padding."""
    plain = all(given in (usual, (usual, usual)) for given, usual in zip(geometry, (1, 0, 1, 1), strict=False))
    return plain and weight.shape[0] <= 4 and min(weight.shape[2:]) >= 5
