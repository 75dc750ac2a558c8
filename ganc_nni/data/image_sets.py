"""What every set of images offers, whether its images are files or are drawn."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ganc_nni.data.transforms import Crop, Size, resize, to_tensor


class ImageSet(Dataset[Tensor], ABC):
    """Images of one domain in a fixed order, all of one size; item i is ``C x H x W`` in [-1, 1], always the same.

    Args:
        names: File name of each image.
        channels: Of an item; 1: grey, 3: RGB.
        size: Height and width, pixels.
        cache: Keep each image in memory, as bytes, once it was used. A worker process of a loader keeps its own.
    """

    resampling: ClassVar[Image.Resampling] = Image.Resampling.BICUBIC
    """How an image of another size is resized."""

    def __init__(self, names: Sequence[str], channels: int, size: Size, cache: bool) -> None:
        self.names = tuple(names)
        self.channels = channels
        self.size = size
        self._cached: dict[int, Image.Image] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        return self.tensor(self.image(index))

    def placed(self, index: int, crop: Crop) -> Tensor:
        """The part of image ``index`` that the crop shows."""
        return self.tensor(crop.apply(self.image(index)))

    def tensor(self, image: Image.Image) -> Tensor:
        """What a network sees of :meth:`image` or of a part of it, ``C x H x W``."""
        return to_tensor(image)

    def image(self, index: int) -> Image.Image:
        """Image ``index`` as PIL holds it, resized, mode ``L`` or ``RGB``. Callers must not change it.

        Raises:
            IndexError: There is no such image.
            InputError: It cannot be read.
        """
        self._refuse_outside(index)
        if self._cached is None:
            return resize(self._read(index), self.size, self.resampling)
        if index not in self._cached:
            self._cached[index] = resize(self._read(index), self.size, self.resampling)
        return self._cached[index]

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of all that the items depend on: equal digests mean equal items."""
        summary = hashlib.sha256(f"{self.channels} {self.size} {self._variant()}".encode())
        for index in range(len(self)):
            summary.update(hashlib.sha256(self._content(index)).digest())
        return summary.hexdigest()

    def _refuse_outside(self, index: int) -> None:
        if not 0 <= index < len(self):  # also what ends a for loop over the set
            raise IndexError(f"image {index} of {len(self)}")

    @abstractmethod
    def _read(self, index: int) -> Image.Image:
        """The image in the right mode, of any size."""

    @abstractmethod
    def content_paths(self) -> tuple[Path, ...]:
        """The files that the items are made from, in the items' order; none where they are drawn."""

    @abstractmethod
    def _content(self, index: int) -> bytes:
        """The bytes that the image is made from."""

    def _variant(self) -> str:
        """What else is done to the content, in words."""
        return ""


class Redrawn(ImageSet):
    """Images drawn from several sets of one domain, without replacement.

    Args:
        sets: The sets; images of one size and number of channels.
        count: How many images.
        seed: Decides which; the same for sets of the same lengths.
    """

    def __init__(self, sets: Sequence[ImageSet], count: int, seed: int) -> None:
        self._sets = tuple(sets)
        everything = [(each, index) for each in sets for index in range(len(each))]
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
        self._picks = [everything[number] for number in sorted(order[:count].tolist())]
        names = [each.names[index] for each, index in self._picks]
        super().__init__(names, sets[0].channels, sets[0].size, cache=False)

    def _read(self, index: int) -> Image.Image:
        images, number = self._picks[index]
        return images.image(number)

    def content_paths(self) -> tuple[Path, ...]:
        """Those of all the sets that are drawn from."""
        return tuple(path for each in self._sets for path in each.content_paths())

    def _content(self, index: int) -> bytes:
        images, number = self._picks[index]
        return f"{images._variant()} ".encode() + images._content(number)
