"""Picture files as torch data sets, and the two kinds of training set."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import Dataset

from ganc_nni.data.batch import Batch
from ganc_nni.data.images import Channels, Half, read_bytes, read_half, read_image
from ganc_nni.data.pictures import PictureSet
from ganc_nni.data.transforms import Augmentation, Size


class Pictures(PictureSet):
    """Picture files in a fixed order, all resized to one size; item i is ``C x H x W`` in [-1, 1].

    Args:
        paths: The files.
        channels: 1: grey, 3: RGB.
        size: Height and width, pixels.
        half: Which half of each picture to take; None: the whole picture.
        cache: Keep each picture in memory once it was used.

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

    def _content(self, index: int) -> bytes:
        return read_bytes(self.paths[index])

    def _variant(self) -> str:
        return self.half or "whole"


@dataclass(eq=False)
class TrainSet(Dataset[Batch], ABC):
    """Augmented pictures of two domains; an item is a :class:`Batch` without its first axis.

    Attributes:
        sources: What the generator reads, at the load size.
        targets: The domain it should reach, at the load size.
        augmentation: Crop and flip.
        generator: Where the draws come from; None: torch's global generator. Leave it out with worker processes:
            each would draw the same numbers from its copy.
    """

    sources: PictureSet
    targets: PictureSet
    augmentation: Augmentation
    generator: torch.Generator | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Batch: ...


class UnpairedTrain(TrainSet):
    """Pictures of two domains that do not belong together, as CycleGAN trains on them.

    Item i is source ``i % len(sources)`` with a random target, each under its own crop and flip. The length is that
    of the larger domain.
    """

    def __len__(self) -> int:
        return max(len(self.sources), len(self.targets))

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        other = int(torch.randint(len(self.targets), (), generator=self.generator))
        source = self.augmentation.draw(self.sources.size, self.generator)
        target = self.augmentation.draw(self.targets.size, self.generator)
        return Batch(self.sources.placed(index % len(self.sources), source), self.targets.placed(other, target))


@dataclass(eq=False)
class PairedTrain(TrainSet):
    """Pictures (or label maps) with their truth, as pix2pix and GauGAN train on them.

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

    def __getitem__(self, index: int) -> Batch:
        placement = self.augmentation.draw(self.sources.size, self.generator)
        return Batch(self.sources.placed(index, placement), self.targets.placed(index, placement))
