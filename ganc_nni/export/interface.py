"""What goes into a deployed network and what comes out: tensors, or bytes as an app has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.data import IGNORE_ID
from ganc_nni.generators import GeneratorConfig


@dataclass(frozen=True)
class Labels:
    """What the channels of a label map mean; see :func:`ganc_nni.data.encode`.

    Attributes:
        classes: Number of classes, one channel each.
        void: Whether the next channel is that of pixels whose class is unknown.
        instances: Whether the last channel is the boundary of instances.
    """

    classes: int
    void: bool
    instances: bool

    @property
    def channels(self) -> int:
        """Of the encoded label map."""
        return self.classes + self.void + self.instances


@dataclass(frozen=True)
class Interface:
    """How a deployed network is called.

    Attributes:
        size: Height and width, pixels.
        dynamic: Whether other heights and widths are accepted too.
        as_bytes: uint8 ``N x H x W x C`` in and out, instead of float32 ``N x C x H x W``.
        labels: The label maps of a SPADE generator; only needed for bytes. Their bytes are the id of the class (255:
            void) and, with instances, the low and the high byte of the number of the pixel's instance.
    """

    size: tuple[int, int]
    dynamic: bool = False
    as_bytes: bool = False
    labels: Labels | None = None

    def check(self, config: GeneratorConfig) -> None:
        """Refuse what the generator cannot be called with.

        Raises:
            InputError: The size does not fit, or it is not known what the channels of a label map mean.
        """
        config.check_size(self.size, "size")
        if not self.as_bytes or not config.reads_labels:
            return
        if self.labels is None or self.labels.channels != config.in_channels:
            found = "nothing" if self.labels is None else f"{self.labels.channels} channels"
            raise InputError(
                f"bytes: the generator reads label maps of {config.in_channels} channels, the description of their "
                f"classes, void and instances says {found}; give one that fits"
            )

    def example(self, config: GeneratorConfig, batch: int) -> Tensor:
        """An input of zeros."""
        if not self.as_bytes:
            return torch.zeros(batch, config.in_channels, *self.size)
        channels = config.in_channels if self.labels is None else (3 if self.labels.instances else 1)
        return torch.zeros(batch, *self.size, channels, dtype=torch.uint8)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with this interface."""
        return OfBytes(network, self.labels) if self.as_bytes else network


class OfBytes(nn.Module):
    """A generator with normalisation inside: uint8 ``N x H x W x C`` in and out.

    Args:
        network: The generator.
        labels: What the channels of its label maps mean; None: it reads images.
    """

    ids: Tensor

    def __init__(self, network: nn.Module, labels: Labels | None) -> None:
        super().__init__()
        self.network = network
        self.labels = labels
        if labels is not None:
            numbers = [*range(labels.classes), *([IGNORE_ID] if labels.void else [])]
            self.register_buffer("ids", torch.tensor(numbers, dtype=torch.int32).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Bytes to bytes; see :class:`Interface`."""
        x = x.permute(0, 3, 1, 2)
        images = x.float() / 127.5 - 1 if self.labels is None else self._encode(x.int())
        output = self.network(images).clamp(-1, 1)
        return output.add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1)

    def _encode(self, x: Tensor) -> Tensor:
        one_hot = (x[:, :1] == self.ids).float()
        if self.labels is None or not self.labels.instances:
            return one_hot
        numbers = x[:, 1:2] + 256 * x[:, 2:3]  # in integers: fp16 has no such large ones
        rows = torch.cat([numbers[:, :, :1], numbers, numbers[:, :, -1:]], 2)
        columns = torch.cat([numbers[:, :, :, :1], numbers, numbers[:, :, :, -1:]], 3)
        edges = [torch.ne(each, numbers) for each in (rows[:, :, :-2], rows[:, :, 2:])]
        edges += [torch.ne(each, numbers) for each in (columns[:, :, :, :-2], columns[:, :, :, 2:])]
        return torch.cat([one_hot, sum((edge.float() for edge in edges[1:]), edges[0].float()).clamp(max=1)], 1)
