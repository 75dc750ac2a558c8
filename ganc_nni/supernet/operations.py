"""Layers that hold all their widths at once and compute with the first channels of the sampled width.

NNI slices Linear, Conv2d and BatchNorm2d; these are what a generator needs besides them, or in their place.
"""

from typing import Any

import nni.nas.nn.pytorch as nas_nn
import torch
import torch.distributed as dist
import torch.nn.functional as F
from nni.mutable import MutableExpression
from nni.nas.oneshot.pytorch.supermodule import operation
from nni.nas.oneshot.pytorch.supermodule.operation import MixedOperation
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class MixedConv2d(operation.MixedConv2d):
    """A convolution as NNI slices it, which can also be frozen where it has no bias."""

    def freeze_weight(self, **arguments: Any) -> dict[str, Any]:
        """The weights of one width."""
        return {name: tensor for name, tensor in super().freeze_weight(**arguments).items() if tensor is not None}


class MixedConvTranspose2d(MixedOperation, nn.ConvTranspose2d):
    """A transposed convolution with sampled input and output channels; weights are ``in x out x k x k``."""

    bound_type = nas_nn.MutableConvTranspose2d
    argument_list = ["in_channels", "out_channels"]  # noqa: RUF012 (NNI's own declaration)

    def super_init_argument(self, name: str, value_choice: MutableExpression[int]) -> int:
        """The supernet holds the widest."""
        return max(value_choice.grid())

    def freeze_weight(self, in_channels: int, out_channels: int, **_: Any) -> dict[str, Any]:
        """The weights of one width, with the bias if there is one."""
        weights = {"weight": self.weight[:in_channels, :out_channels]}
        return weights if self.bias is None else {**weights, "bias": self.bias[:out_channels]}

    def forward_with_args(self, in_channels: int, out_channels: int, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` to ``N x out_channels x H' x W'``."""
        weights = self.freeze_weight(in_channels, out_channels)
        options: Any = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return F.conv_transpose2d(x, weights["weight"], weights.get("bias"), *options)


class MixedInstanceNorm2d(MixedOperation, nn.InstanceNorm2d):
    """Instance normalisation without parameters: any number of channels is the same operation."""

    bound_type = nas_nn.MutableInstanceNorm2d
    argument_list = ["num_features"]  # noqa: RUF012 (NNI's own declaration)

    def super_init_argument(self, name: str, value_choice: MutableExpression[int]) -> int:
        """The supernet holds the widest."""
        return max(value_choice.grid())

    def freeze_weight(self, **_: Any) -> dict[str, Tensor]:
        """There are none."""
        return {}

    def forward_with_args(self, num_features: int, x: Tensor) -> Tensor:
        """``N x num_features x H x W`` to the same shape."""
        return F.instance_norm(x, eps=self.eps)


class MixedBatchNorm2d(MixedOperation, nn.BatchNorm2d):
    """Batch normalisation with running statistics, with or without parameters; NNI's own crashes without.

    All widths share the running statistics of their channels, and in training each forward pass moves those of the
    sampled width. Distributed, a batch is that of all processes together, as with ``torch.nn.SyncBatchNorm``, which
    cannot be sliced; all processes must have the same width.
    """

    bound_type = nas_nn.MutableBatchNorm2d
    argument_list = ["num_features"]  # noqa: RUF012 (NNI's own declaration)

    def super_init_argument(self, name: str, value_choice: MutableExpression[int]) -> int:
        """The supernet holds the widest."""
        return max(value_choice.grid())

    def freeze_weight(self, num_features: int, **_: Any) -> dict[str, Tensor]:
        """The parameters, if there are any, and running statistics of one width."""
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name: tensor[:num_features] if tensor.dim() else tensor for name, tensor in tensors.items()}

    def forward_with_args(self, num_features: int, x: Tensor) -> Tensor:
        """``N x num_features x H x W`` to the same shape."""
        tensors = self.freeze_weight(num_features)
        mean, variance = tensors["running_mean"], tensors["running_var"]
        momentum = self.momentum
        if self.training:
            tensors["num_batches_tracked"] += 1
            if momentum is None:  # as torch's own: the mean over all batches
                momentum = 1 / int(tensors["num_batches_tracked"])
            if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
                x = _normalise_everywhere(x, mean, variance, momentum, self.eps)
                return x if not self.affine else x * _row(tensors["weight"]) + _row(tensors["bias"])
        options: Any = (self.training, momentum or 0.0, self.eps)
        return F.batch_norm(x, mean, variance, tensors.get("weight"), tensors.get("bias"), *options)


def _normalise_everywhere(x: Tensor, mean: Tensor, variance: Tensor, momentum: float, eps: float) -> Tensor:
    """``x`` normalised over the batches of all processes; moves the running ``mean`` and ``variance``.

    In their precision, not in that of ``x``; in two passes, because a variance from the mean of squares cancels where
    the mean is large.
    """
    values = x.to(mean.dtype)
    ones = values.new_full((1,), values[:, 0].numel())
    sums = all_reduce(torch.cat((values.sum((0, 2, 3)), ones)))
    count = sums[-1]
    centred = values - _row(sums[:-1] / count)
    batch_variance = all_reduce(centred.square().sum((0, 2, 3))) / count
    with torch.no_grad():
        mean.lerp_(sums[:-1] / count, momentum)
        variance.lerp_(batch_variance * count / (count - 1), momentum)
    return (centred * _row((batch_variance + eps).rsqrt())).to(x.dtype)


def _row(channels: Tensor) -> Tensor:
    return channels.view(1, -1, 1, 1)
