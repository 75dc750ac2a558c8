"""Image files as torch data sets, and the two kinds of training set."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ganc_nni.data.batch import Batch
from ganc_nni.data.decoding import Channels
from ganc_nni.data.image_sets import ImageSet
from ganc_nni.data.images import Half, read_bytes, read_half, read_image
from ganc_nni.data.order import drawing
from ganc_nni.data.transforms import Augmentation, Crop, Size


class ImageFileSet(ImageSet):
    """Image files in a fixed order, all resized to one size; item i is ``C x H x W`` in [-1, 1].

    Args:
        paths: The files.
        channels: 1: grey, 3: RGB.
        size: Height and width, pixels.
        half: Which half of each image to take; None: the whole image.
        cache: Keep each image in memory once it was used.

    Raises:
        InputError: From an item or the digest, when its file cannot be read; the message names it.
    """

    def __init__(
        self, paths: Sequence[Path], channels: Channels, size: Size, half: Half | None = None, cache: bool = False
    ) -> None:
        super().__init__([path.name for path in paths], channels, size, cache)
        self.channels: Channels = channels
        self.paths = tuple(paths)
        self.half = half

    def _read(self, index: int) -> Image.Image:
        path = self.paths[index]
        if self.half is None:
            return read_image(path, self.channels)
        return read_half(path, self.channels, self.half)

    def content_paths(self) -> tuple[Path, ...]:
        """The files."""
        return self.paths

    def _content(self, index: int) -> bytes:
        return read_bytes(self.paths[index])

    def _variant(self) -> str:
        return self.half or "whole"


class Shown(NamedTuple):
    """Which image, and which part of it.

    Attributes:
        number: Of the image in its set, from 0.
        crop: Crop and flip.
    """

    number: int
    crop: Crop


@dataclass(eq=False)
class TrainSet(Dataset[Batch], ABC):
    """Augmented images of two domains, in endless variations; an item is a :class:`Batch` without its first axis.

    Item n is image ``n % len`` as epoch ``n // len`` shows it. What is random about it depends on ``seed`` and n
    alone. To iterate is to see the first epoch.

    Attributes:
        sources: What the generator reads, at the load size.
        targets: The domain it should reach, at the load size.
        augmentation: Crop and flip.
        seed: Seeds crops, flips and what else is drawn; an integer from 0.
    """

    sources: ImageSet
    targets: ImageSet
    augmentation: Augmentation
    seed: int = 0

    @abstractmethod
    def __len__(self) -> int:
        """Images an epoch."""

    @abstractmethod
    def draw(self, number: int) -> tuple[Shown, Shown]:
        """What item ``number`` shows of sources and targets."""

    def __getitem__(self, number: int) -> Batch:
        source, target = self.draw(number)
        image = self.sources.placed(*source)
        alone = self.targets is self.sources  # inputs without targets
        return Batch(image, image if alone else self.targets.placed(*target), self.taught(number))

    def taught(self, number: int) -> tuple[Tensor, ...]:
        """What the teacher makes of item ``number``, where that is known; see :class:`Batch`."""
        return ()

    def __iter__(self) -> Iterator[Batch]:
        return (self[number] for number in range(len(self)))


class UnpairedTrain(TrainSet):
    """Images of two domains that do not belong together, as CycleGAN trains on them.

    Item i is source ``i % len(sources)`` with a random target, each under its own crop and flip. The length is that
    of the larger domain.
    """

    def __len__(self) -> int:
        return max(len(self.sources), len(self.targets))

    def draw(self, number: int) -> tuple[Shown, Shown]:
        """A source, and any target."""
        random = drawing(self.seed, number)
        other = int(torch.randint(len(self.targets), (), generator=random))
        source = self.augmentation.draw(self.sources.size, random)
        target = self.augmentation.draw(self.targets.size, random)
        return Shown(number % len(self) % len(self.sources), source), Shown(other, target)


@dataclass(eq=False)
class PairedTrain(TrainSet):
    """Images (or label maps) with their truth, as pix2pix and GauGAN train on them.

    ``targets[i]`` is the truth of ``sources[i]``; both are under the same crop and flip.

    Raises:
        ValueError: The two sets differ in length or size.
    """

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.targets) or self.sources.size != self.targets.size:
            raise ValueError(
                f"{len(self.sources)} sources of size {self.sources.size} and {len(self.targets)} targets of size "
                f"{self.targets.size}; expected one target for each source, of the same size"
            )

    def __len__(self) -> int:
        return len(self.sources)

    def draw(self, number: int) -> tuple[Shown, Shown]:
        """The same of both."""
        shown = Shown(number % len(self), self.augmentation.draw(self.sources.size, drawing(self.seed, number)))
        return shown, shown
