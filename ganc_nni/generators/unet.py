"""The U-Net generator of pix2pix (arXiv 1611.07004, section 6.1.1), as one class for all roles.

Widths and layers are those of ``UnetGenerator`` in junyanz/pytorch-CycleGAN-and-pix2pix (unet_128, unet_256). There a
layer of the decoder is one transposed convolution of a concatenation, [skip connection, what comes from below]; here it
is the sum of two, one of each part. That is the same up to rounding, and the first channels of a weight stay the ones
that a narrower sub-generator keeps; :mod:`ganc_nni.interop.unet` translates the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch.nn.functional as F
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn

from ganc_nni.generators.layers import Width, conv, layer, norm

LABELS = ("down_0", "down_1", "down_2", "down_3", "down_4", "up_0", "up_1", "up_2", "up_3")
"""What the nine widths are called, in the order of a configuration string: as the image passes them.

Layers that make maps of a 32nd of the image's size or less share ``down_4``, and those that double these ``up_0``.
"""

MULTIPLIERS = (1, 2, 4, 8, 8, 8, 4, 2, 1)
"""Channels of a layer = its width times this; doubles where the resolution halves, up to 8."""

DEPTHS = (5, 8)
"""How often height and width are halved, at least and at most."""

FEATURE_LAYERS = ("encode_1", "encode_3", "norm_4", "norm_2")
"""The layers whose activations are distilled: the places at which OMGD (arXiv 2108.06908) distils U-Nets."""

Norm: TypeAlias = Literal["instance", "batch"]


class Double(nn.Module):
    """A ReLU, then a transposed convolution that doubles height and width."""

    def __init__(self, in_channels: Width, out_channels: Width, bias: bool) -> None:
        super().__init__()
        options = {"kernel_size": 4, "stride": 2, "padding": 1, "bias": bias}
        self.conv = layer(nn.ConvTranspose2d, in_channels=in_channels, out_channels=out_channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` to ``N x out_channels x 2H x 2W``."""
        return self.conv(F.relu(x))


class UnetGenerator(ModelSpace):
    """Halves the image ``n_downs`` times and doubles it as often, each time with a look at what it was before.

    Integers as ``widths`` make a network of plain torch layers: the teacher (nine times the same) or a deployable
    sub-generator. Choices make the model space, which the one-shot strategy turns into the supernet. It is
    deterministic: the dropout that pix2pix leaves on as noise is left out (docs/checkpoints.md).

    Level 0 is the outermost. A level has ``encode`` (a convolution that halves), ``decode`` (a transposed one of what
    comes from the level below), ``skip`` (one of what ``encode`` made; not at the innermost) and ``norm``.

    Args:
        widths: The nine widths, ordered like :data:`LABELS`, before multiplication by :data:`MULTIPLIERS`.
        in_channels: Channels of the input image.
        out_channels: Channels of the output image.
        n_downs: Levels, 5 to 8; height and width are multiples of 2^n_downs.
        norm: "instance", without parameters, or "batch", with parameters and running statistics, after convolutions
            without bias: as ``--norm`` of the public code.
    """

    def __init__(
        self,
        widths: Sequence[Width] = (64,) * 9,
        in_channels: int = 3,
        out_channels: int = 3,
        n_downs: int = 8,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        if len(widths) != len(LABELS):
            raise ValueError(f"a U-Net generator has {len(LABELS)} widths ({', '.join(LABELS)}), got {len(widths)}")
        if not DEPTHS[0] <= n_downs <= DEPTHS[1]:
            raise ValueError(f"a U-Net generator halves the image {DEPTHS[0]} to {DEPTHS[1]} times, got {n_downs}")
        self.n_downs = n_downs
        self.feature_layers = list(FEATURE_LAYERS)
        channels = [width * multiplier for width, multiplier in zip(widths, MULTIPLIERS, strict=True)]
        inner = n_downs - DEPTHS[0]
        down = channels[:5] + inner * [channels[4]]
        up = [out_channels, *channels[:5:-1], *(inner + 1) * [channels[5]]]  # by level
        bias = norm == "instance"
        for level in range(n_downs):
            halve = _halve(in_channels if level == 0 else down[level - 1], down[level], bias)
            layers: list[nn.Module] = [nn.Identity() if level == 0 else nn.LeakyReLU(0.2), halve]
            if 0 < level < n_downs - 1:  # the innermost may be a single pixel, of which a norm would leave nothing
                layers.append(_norm(down[level], norm))
            setattr(self, f"encode_{level}", nn.Sequential(*layers))
        for level in reversed(range(n_downs)):
            below = down[level] if level == n_downs - 1 else up[level + 1]
            setattr(self, f"decode_{level}", Double(below, up[level], bias or level == 0))
            if level < n_downs - 1:
                setattr(self, f"skip_{level}", Double(down[level], up[level], False))
            setattr(self, f"norm_{level}", nn.Tanh() if level == 0 else _norm(up[level], norm))
        self.feature_channels: list[Width] = [down[1], down[3], up[4], up[2]]

    def forward(self, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` to ``N x out_channels x H x W`` in [-1, 1]; H and W multiples of 2^n_downs."""
        return self.forward_with_features(x)[0]

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output, and the activations of :data:`FEATURE_LAYERS`.

        They are ``N x 2 down_1 x H/4 x W/4``, ``N x 8 down_3 x H/16 x W/16``, ``N x 8 up_0 x H/16 x W/16`` and
        ``N x 2 up_2 x H/4 x W/4``, where ``down_1`` and the others are widths.
        """
        made: dict[str, Tensor] = {}
        layers = dict(self.named_children())
        for level in range(self.n_downs):
            x = made[f"encode_{level}"] = layers[f"encode_{level}"](x)
        for level in reversed(range(self.n_downs)):
            x = layers[f"decode_{level}"](x)
            if level < self.n_downs - 1:
                x = x + layers[f"skip_{level}"](made[f"encode_{level}"])
            x = made[f"norm_{level}"] = layers[f"norm_{level}"](x)
        return x, [made[name] for name in FEATURE_LAYERS]


def _halve(in_channels: Width, out_channels: Width, bias: bool) -> nn.Module:
    return conv(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)


def _norm(channels: Width, kind: Norm) -> nn.Module:
    return norm(channels) if kind == "instance" else layer(nn.BatchNorm2d, num_features=channels)
