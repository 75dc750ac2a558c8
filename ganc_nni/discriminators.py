"""The PatchGAN discriminator of pix2pix (arXiv 1611.07004, section 3.2.2) and CycleGAN (arXiv 1703.10593).

State-dict keys are those of junyanz/pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

from torch import Tensor, nn

from ganc_nni.errors import InputError

KERNEL = 4


class PatchDiscriminator(nn.Module):
    """Says of each patch of a picture whether it is real; 3 strided layers see patches of 70 x 70 pixels.

    Args:
        in_channels: Channels of what is judged; a conditional discriminator reads source and picture concatenated.
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

    def forward(self, pictures: Tensor) -> Tensor:
        """Judge every patch.

        Args:
            pictures: ``N x in_channels x H x W`` in [-1, 1].

        Returns:
            Logits, ``N x 1 x H/2^n_layers - 2 x W/2^n_layers - 2``; high means real.

        Raises:
            InputError: The pictures are smaller than what the strides reduce to one patch.
        """
        height, width = pictures.shape[-2:]
        if min(height, width) < self.smallest:
            raise InputError(
                f"the discriminator needs pictures of at least {self.smallest} x {self.smallest} pixels, got "
                f"{height} x {width}; enlarge data.image_size or lower discriminator.n_layers"
            )
        return self.model(pictures)


def _conv(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, KERNEL, stride=stride, padding=1)


def _activation() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)
