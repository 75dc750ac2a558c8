"""Multiply-accumulates and parameters of a generator, as numbers or as expressions of its widths.

There are two conventions (docs/macs.md): ``published``, that of GAN Compression's tables, counts convolutions,
transposed ones at their output resolution, each element of an instance norm, and the multiplication by which a Spade
scales each element; ``true`` counts transposed convolutions at their input resolution and no norms. Neither counts
biases. Both are for one image.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from nni.mutable import MutableExpression
from nni.nas.nn.pytorch import ParametrizedModule
from torch import Tensor, nn

from ganc_nni.generators.layers import ScalingNorm

Number: TypeAlias = int | MutableExpression[int]

_COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.BatchNorm2d, ScalingNorm)


@dataclass(frozen=True)
class Cost:
    """What a generator costs; expressions for a model space, integers for a network.

    Attributes:
        macs_published: Multiply-accumulates per image in the convention of the papers' tables.
        macs_true: Multiply-accumulates per image that are really done.
        params: Weights and biases.
    """

    macs_published: Number
    macs_true: Number
    params: Number

    def at(self, sample: Mapping[str, int]) -> Cost:
        """The cost of one sub-generator of the space."""
        return Cost(*(at(value, sample) for value in (self.macs_published, self.macs_true, self.params)))

    def macs(self, convention: str) -> Number:
        """MACs in ``published`` or ``true`` convention."""
        return self.macs_published if convention == "published" else self.macs_true


def count(network: nn.Module, in_channels: int, size: tuple[int, int]) -> Cost:
    """Count a plain network, or a model space that has not become a supernet yet.

    Args:
        network: Anything whose cost is in Conv2d, ConvTranspose2d, InstanceNorm2d, BatchNorm2d and ScalingNorm.
        in_channels: Channels of its input.
        size: Height and width of its input, pixels.
    """
    published: Number = 0
    true: Number = 0
    params: Number = 0
    for module, in_pixels, out_pixels in _layers(network, in_channels, size):
        if isinstance(module, nn.InstanceNorm2d | ScalingNorm):
            normalised = module.param_free_norm if isinstance(module, ScalingNorm) else module
            channels = _argument(normalised, "num_features")
            published = channels * out_pixels + published
            params = (2 * channels if isinstance(module, nn.InstanceNorm2d) and module.affine else 0) + params
            continue
        if isinstance(module, nn.BatchNorm2d):  # a convolution's, into which it can be folded
            params = (2 * _argument(module, "num_features") if module.affine else 0) + params
            continue
        out_channels = _argument(module, "out_channels")
        kernel = module.kernel_size[0] * module.kernel_size[1]
        weights = out_channels * (_argument(module, "in_channels") // _argument(module, "groups")) * kernel
        transposed = isinstance(module, nn.ConvTranspose2d)
        published = weights * out_pixels + published
        true = weights * (in_pixels if transposed else out_pixels) + true
        params = weights + (out_channels if module.bias is not None else 0) + params
    return Cost(published, true, params)


def _layers(network: nn.Module, in_channels: int, size: tuple[int, int]) -> list[tuple[Any, int, int]]:
    """Every layer that counts, with the pixels of its input and output; found by one pass without arithmetic."""
    counted: list[tuple[Any, int, int]] = []
    originals = dict(network.named_modules())
    # NNI's layers break when deep-copied to the meta device one by one, so the whole network goes there at once.
    # In evaluation mode, because a batch norm cannot train on one image of one pixel.
    dry = copy.deepcopy(network).to("meta").eval()
    for name, module in dry.named_modules():
        if isinstance(module, _COUNTED):

            def hook(
                _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, original: nn.Module = originals[name]
            ) -> None:
                counted.append((original, inputs[0].shape[-2:].numel(), output.shape[-2:].numel()))

            module.register_forward_hook(hook)
    with torch.no_grad():
        dry(torch.empty(1, in_channels, *size, device="meta"))
    return counted


def _argument(module: nn.Module, name: str) -> Any:
    """A layer's argument: the expression where it is a choice."""
    if isinstance(module, ParametrizedModule):
        return module.args.get(name, getattr(module, name))
    return getattr(module, name)


def at(value: Number, sample: Mapping[str, int]) -> int:
    """A number itself, or an expression's value for one sample."""
    return int(value.freeze(dict(sample)) if isinstance(value, MutableExpression) else value)
