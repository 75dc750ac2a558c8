"""The ResNet generator of CycleGAN (arXiv 1703.10593) and pix2pix (arXiv 1611.07004), as one class for all roles.

Layout and state-dict keys are those of junyanz/pytorch-CycleGAN-and-pix2pix and mit-han-lab/gan-compression; the
eight widths and the separable residual blocks are those of GAN Compression (arXiv 2003.08936, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn

from ganc_nni.generators.layers import SeparableConv2d, Width, conv, norm, upsample

LABELS = ("down_0", "down_1", "down_2", "blocks_0", "blocks_1", "blocks_2", "up_0", "up_1")
"""What the eight widths are called, in the order of a configuration string."""

MULTIPLIERS = (1, 2, 4, 4, 4, 4, 2, 1)
"""Channels of a layer = its width times this; doubles where the resolution halves."""


def block_groups(n_blocks: int) -> tuple[int, int, int]:
    """Residual blocks in each of the three groups that share one width."""
    third = n_blocks // 3
    return third, third, n_blocks - 2 * third


class ResnetBlock(nn.Module):
    """``x + F(x)`` with two 3x3 convolutions; ``inner`` is the number of channels between them."""

    def __init__(self, channels: Width, inner: Width, separable: bool, affine: bool = False) -> None:
        super().__init__()

        def conv3x3(in_channels: Width, out_channels: Width) -> nn.Module:
            if separable:
                return SeparableConv2d(in_channels, out_channels, affine)
            return conv(in_channels, out_channels, 3)

        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            conv3x3(channels, inner),
            norm(inner, affine),
            nn.ReLU(inplace=True),
            nn.Identity(),  # a dropout layer stood here when the key names were fixed
            nn.ReflectionPad2d(1),
            conv3x3(inner, channels),
            norm(channels, affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``N x channels x H x W`` to the same shape."""
        return x + self.conv_block(x)


class ResnetGenerator(ModelSpace):
    """Down twice, ``n_blocks`` residual blocks, up twice.

    Integers as ``widths`` make a network of plain torch layers: the teacher (eight times the same) or a deployable
    sub-generator. Choices make the model space, which the one-shot strategy turns into the supernet.

    Args:
        widths: The eight widths, ordered like :data:`LABELS`, before multiplication by :data:`MULTIPLIERS`.
        in_channels: Channels of the input image.
        out_channels: Channels of the output image.
        n_blocks: Residual blocks; at least 1.
        separable: Separable instead of full convolutions in the residual blocks ("mobile").
        affine: Instance norms with scale and shift, as some teachers have them; not for a model space.
    """

    def __init__(
        self,
        widths: Sequence[Width] = (64,) * 8,
        in_channels: int = 3,
        out_channels: int = 3,
        n_blocks: int = 9,
        separable: bool = False,
        affine: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) != len(LABELS):
            raise ValueError(f"a ResNet generator has {len(LABELS)} widths ({', '.join(LABELS)}), got {len(widths)}")
        channels = [width * multiplier for width, multiplier in zip(widths, MULTIPLIERS, strict=True)]
        down, inner, up = channels[:3], channels[3:6], channels[6:]
        trunk = down[2]
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), conv(in_channels, down[0], 7)]
        layers += [norm(down[0], affine), nn.ReLU(inplace=True)]
        for i in (0, 1):
            layers += [conv(down[i], down[i + 1], 3, stride=2, padding=1)]
            layers += [norm(down[i + 1], affine), nn.ReLU(inplace=True)]
        self.feature_layers = [len(layers) - 1]
        for group, size in enumerate(block_groups(n_blocks)):
            layers += [ResnetBlock(trunk, inner[group], separable, affine) for _ in range(size)]
            self.feature_layers.append(len(layers) - 1)
        for narrow, wide in ((trunk, up[0]), (up[0], up[1])):
            layers += [upsample(narrow, wide), norm(wide, affine), nn.ReLU(inplace=True)]
        layers += [nn.ReflectionPad2d(3), conv(up[1], out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.feature_channels: list[Width] = [trunk] * len(self.feature_layers)

    def forward(self, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` in [-1, 1] to ``N x out_channels x H x W`` in [-1, 1]; H and W multiples of 4."""
        return self.model(x.clamp(-1, 1))

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output, and the trunk's activations before the blocks and after each group of blocks.

        These are the four layers that GAN Compression distils; each is ``N x 4 width x H/4 x W/4``.
        """
        features = []
        x = x.clamp(-1, 1)
        for index, module in enumerate(self.model):
            x = module(x)
            if index in self.feature_layers:
                features.append(x)
        return x, features
