"""What judges images: the PatchGAN of pix2pix and CycleGAN, and the multi-scale discriminator of GauGAN.

State-dict keys are those of junyanz/pytorch-CycleGAN-and-pix2pix and of NVlabs/SPADE.
"""

from __future__ import annotations

from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from ganc_nni.core.errors import InputError
from ganc_nni.recipe import DiscriminatorRecipe

KERNEL = 4

WIDEST = 512
"""Channels of a layer of the multi-scale discriminator, at most."""


class PatchDiscriminator(nn.Module):
    """Says of each patch of an image whether it is real; 3 strided layers see patches of 70 x 70 pixels.

    From pix2pix (arXiv 1611.07004, section 3.2.2) and CycleGAN (arXiv 1703.10593).

    Args:
        in_channels: Channels of what is judged; a conditional discriminator reads source and image concatenated.
        width: Channels of the first layer (ndf); they double with each layer, up to 8 times.
        n_layers: Layers of stride 2; at least 1.
    """

    def __init__(self, in_channels: int, width: int = 64, n_layers: int = 3) -> None:
        super().__init__()
        if n_layers < 1:
            raise ValueError(f"a PatchGAN discriminator has at least 1 strided layer, got n_layers {n_layers}")
        channels = [width * min(2**layer, 8) for layer in range(n_layers + 1)]
        layers: list[nn.Module] = [_conv(in_channels, channels[0], stride=2), _activation()]
        for layer in range(1, n_layers + 1):
            layers += [
                _conv(channels[layer - 1], channels[layer], stride=2 if layer < n_layers else 1),
                nn.InstanceNorm2d(channels[layer]),
                _activation(),
            ]
        self.model = nn.Sequential(*layers, _conv(channels[-1], 1, stride=1))
        # A strided layer halves (rounding down), each of the two last layers takes one pixel away.
        self.smallest = 3 * 2**n_layers

    def forward(self, images: Tensor) -> Tensor:
        """Judge every patch.

        Args:
            images: ``N x in_channels x H x W`` in [-1, 1].

        Returns:
            Logits, ``N x 1 x H/2^n_layers - 2 x W/2^n_layers - 2``; high means real.

        Raises:
            InputError: The images are smaller than what the strides reduce to one patch.
        """
        _check_size(images, self.smallest, "n_layers")
        return self.model(images)

    def layers(self, images: Tensor) -> list[Tensor]:
        """What every activation puts out, ``N x C x H' x W'``, and the logits last; see :meth:`forward`."""
        _check_size(images, self.smallest, "n_layers")
        features, x = [], images
        for layer in self.model:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                features.append(x)
        return [*features, x]


class ScaleDiscriminator(nn.Module):
    """A PatchGAN under spectral and instance norm that hands out what every layer computes.

    Args:
        in_channels: See :class:`MultiscaleDiscriminator`.
        width: See :class:`MultiscaleDiscriminator`.
        n_layers: See :class:`MultiscaleDiscriminator`.
    """

    def __init__(self, in_channels: int, width: int, n_layers: int) -> None:
        super().__init__()
        self.model0 = nn.Sequential(nn.Conv2d(in_channels, width, KERNEL, stride=2, padding=2), nn.LeakyReLU(0.2))
        for layer in range(1, n_layers):
            narrow, width = width, min(2 * width, WIDEST)
            stride = 2 if layer < n_layers - 1 else 1
            # A bias would be lost in the norm.
            convolution = nn.Conv2d(narrow, width, KERNEL, stride=stride, padding=2, bias=False)
            normed = nn.Sequential(spectral_norm(convolution), nn.InstanceNorm2d(width))
            setattr(self, f"model{layer}", nn.Sequential(normed, nn.LeakyReLU(0.2)))
        setattr(self, f"model{n_layers}", nn.Sequential(nn.Conv2d(width, 1, KERNEL, padding=2)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """``N x in_channels x H x W`` to the features of every layer, the last of which are the logits."""
        features = []
        for layer in self.children():
            x = layer(x)
            features.append(x)
        return features


class MultiscaleDiscriminator(nn.Module):
    """The same discriminator at several resolutions (pix2pixHD, arXiv 1711.11585, section 3.2), as GauGAN has it.

    Spectral and instance norm are those of SPADE (arXiv 1903.07291, appendix A).

    Args:
        in_channels: Channels of what is judged: label map and image concatenated.
        width: Channels of the first layer (ndf); they double with each layer, up to :data:`WIDEST`.
        n_layers: Layers before the logits, all of stride 2 but the last (the first, if it is alone); at least 1.
        n_scales: Discriminators; each sees half the height and width of the one before. At least 1.
    """

    def __init__(self, in_channels: int, width: int = 64, n_layers: int = 4, n_scales: int = 2) -> None:
        super().__init__()
        if n_layers < 1 or n_scales < 1:
            raise ValueError(
                "a multi-scale discriminator has at least 1 layer and 1 scale, got "
                f"n_layers {n_layers} and n_scales {n_scales}"
            )
        for scale in range(n_scales):
            setattr(self, f"discriminator_{scale}", ScaleDiscriminator(in_channels, width, n_layers))
        # 2 pixels a side stay 2 through every layer, and fewer are no image for an instance norm.
        self.smallest = 2 ** (n_scales - 1) + 1

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        """Judge every patch at every scale.

        Args:
            images: ``N x in_channels x H x W``.

        Returns:
            For each scale, finest first, the features of its ``n_layers + 1`` layers, ``N x C x H' x W'``. The last
            are the logits, ``N x 1 x H' x W'``; high means real.

        Raises:
            InputError: The images are too small for the coarsest scale.
        """
        _check_size(images, self.smallest, "n_scales")
        judged = []
        for discriminator in self.children():
            judged.append(discriminator(images))
            images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
        return judged


Discriminator: TypeAlias = PatchDiscriminator | MultiscaleDiscriminator


def build_discriminator(recipe: DiscriminatorRecipe, in_channels: int) -> Discriminator:
    """The discriminator that a recipe asks for: a PatchGAN for one scale, the multi-scale one for more."""
    if recipe.n_scales == 1:
        return PatchDiscriminator(in_channels, recipe.width, recipe.n_layers)
    return MultiscaleDiscriminator(in_channels, recipe.width, recipe.n_layers, recipe.n_scales)


def _check_size(images: Tensor, smallest: int, setting: str) -> None:
    height, width = images.shape[-2:]
    if min(height, width) < smallest:
        raise InputError(
            f"the discriminator needs images of at least {smallest} x {smallest} pixels, got {height} x {width}; "
            f"enlarge data.image_size or lower discriminator.{setting}"
        )


def _conv(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, KERNEL, stride=stride, padding=1)


def _activation() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)
