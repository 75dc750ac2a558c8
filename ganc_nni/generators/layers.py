"""Torch layers whose widths may be NNI choices."""

from typing import Any, TypeAlias

import nni.nas.nn.pytorch as nas_nn
from nni.mutable import Mutable, MutableExpression
from torch import Tensor, nn

Width: TypeAlias = int | MutableExpression[int]
"""A number of channels, or the expression that says which numbers it may be."""


def layer(plain: type[nn.Module], **arguments: Any) -> nn.Module:
    """The torch layer itself, or NNI's version of it where an argument is a choice.

    Keeping torch's own class wherever it can be kept is what makes teacher and deployable network plain torch.
    """
    if any(isinstance(argument, Mutable) for argument in arguments.values()):
        return getattr(nas_nn, f"Mutable{plain.__name__}")(**arguments)
    return plain(**arguments)


def conv(in_channels: Width, out_channels: Width, kernel_size: int, **options: Any) -> nn.Module:
    """A convolution with bias; ``options`` are torch's."""
    return layer(nn.Conv2d, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, **options)


def upsample(in_channels: Width, out_channels: Width) -> nn.Module:
    """A transposed convolution that doubles height and width."""
    options = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
    return layer(nn.ConvTranspose2d, in_channels=in_channels, out_channels=out_channels, **options)


def norm(channels: Width, affine: bool = False) -> nn.Module:
    """Instance normalisation; ``affine``: with a scale and a shift for each channel."""
    return layer(nn.InstanceNorm2d, num_features=channels, affine=affine)


class SeparableConv2d(nn.Module):
    """A depthwise 3x3 convolution, a norm, and a pointwise convolution (MobileNet, arXiv 1704.04861)."""

    def __init__(self, in_channels: Width, out_channels: Width, affine: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(in_channels, in_channels, 3, groups=in_channels),
            norm(in_channels, affine),
            conv(in_channels, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` to ``N x out_channels x H-2 x W-2``."""
        return self.conv(x)


class ScalingNorm(nn.Module):
    """Base of layers that normalise each channel and scale each element by something computed from another input.

    Published MACs count one for each element of it.

    Attributes:
        param_free_norm: The norm; its ``num_features`` are the channels.
    """

    param_free_norm: nn.Module
