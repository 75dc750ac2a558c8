"""Training images that lie on the device: read once, cut and mirrored there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ganc_nni.data.batch import Batch
from ganc_nni.data.folders import Shown, TrainSet
from ganc_nni.data.image_sets import ImageSet


class Numbers(Dataset[int]):
    """Item n is n: what a loader asks for, passed on to :class:`OnDevice`."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> int:
        return number


class OnDevice:
    """Makes the batches of a training set from bytes on a device; the same as the set's own, to the bit.

    Args:
        train: Of images, no label maps. All of it is read now.
        device: Where the batches will be. Takes a byte a pixel and channel.

    Raises:
        InputError: An image cannot be read.
    """

    def __init__(self, train: TrainSet, device: torch.device) -> None:
        self.train = train
        self._sources = _bytes(train.sources, device)
        self._targets = self._sources if train.targets is train.sources else _bytes(train.targets, device)

    def __call__(self, numbers: Sequence[int]) -> Batch:
        """The items of these numbers, ``N x C x H x W`` in [-1, 1]."""
        sources, targets = zip(*(self.train.draw(number) for number in numbers), strict=True)
        taught = default_collate([self.train.taught(number) for number in numbers])
        return Batch(_cut(self._sources, sources), _cut(self._targets, targets), taught)


def _bytes(images: ImageSet, device: torch.device) -> Tensor:
    """All images, ``N x C x H x W`` uint8."""
    everything = torch.empty(len(images), images.channels, *images.size, dtype=torch.uint8)
    for index in range(len(images)):
        pixels = torch.from_numpy(np.array(images.image(index)))
        everything[index] = pixels.reshape(*images.size, images.channels).permute(2, 0, 1)
    return everything.to(device)


def _cut(images: Tensor, shown: Sequence[Shown]) -> Tensor:
    parts = []
    for number, crop in shown:
        (height, width), top, left = crop.size, crop.top, crop.left
        part = images[number, :, top : top + height, left : left + width]
        parts.append(part.flip(2) if crop.mirrored else part)
    return torch.stack(parts).float() / 127.5 - 1
