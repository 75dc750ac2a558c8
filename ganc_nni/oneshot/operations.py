"""Layers that hold all their widths at once and compute with the first channels of the sampled width.

NNI slices Conv2d and Linear; these two are what a generator needs beside them.
"""

from typing import Any

import nni.nas.nn.pytorch as nas_nn
import torch.nn.functional as F
from nni.mutable import MutableExpression
from nni.nas.oneshot.pytorch.supermodule.operation import MixedOperation
from torch import Tensor, nn


class MixedConvTranspose2d(MixedOperation, nn.ConvTranspose2d):
    """A transposed convolution with sampled input and output channels; weights are ``in x out x k x k``."""

    bound_type = nas_nn.MutableConvTranspose2d
    argument_list = ["in_channels", "out_channels"]  # noqa: RUF012 (NNI's own declaration)

    def super_init_argument(self, name: str, value_choice: MutableExpression[int]) -> int:
        """The supernet holds the widest."""
        return max(value_choice.grid())

    def freeze_weight(self, in_channels: int, out_channels: int, **_: Any) -> dict[str, Any]:
        """The weights of one width."""
        bias = None if self.bias is None else self.bias[:out_channels]
        return {"weight": self.weight[:in_channels, :out_channels], "bias": bias}

    def forward_with_args(self, in_channels: int, out_channels: int, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` to ``N x out_channels x H' x W'``."""
        weight, bias = self.freeze_weight(in_channels, out_channels).values()
        options: Any = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return F.conv_transpose2d(x, weight, bias, *options)


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
