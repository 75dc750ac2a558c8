"""From a PIL image to what a network sees, as the published recipes do it.

Training: resize to the load size, crop at random, mirror half of the time. Evaluation: resize, nothing else.
Sizes are (height, width) in pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganc_nni.core.errors import InputError

Size = tuple[int, int]


def resize(image: Image.Image, size: Size, resampling: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """The image at (height, width) ``size``; its aspect ratio is not kept."""
    height, width = size
    if image.size == (width, height):
        return image
    return image.resize((width, height), resampling)


def to_tensor(image: Image.Image) -> Tensor:
    """An 8-bit image as ``C x H x W`` float32 in [-1, 1]: black is -1, white is 1."""
    # in numpy: torch would wake its thread pool, which on busy cores takes 200 times as long as the arithmetic
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / 127.5 - 1)


def to_image(image: Tensor) -> Image.Image:
    """The inverse of :func:`to_tensor`: ``C x H x W`` in [-1, 1], C 1 or 3, rounded to 8 bits."""
    pixels = image.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def batches_of_one_size(images: Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Neighbours of the same shape stacked to ``N x C x H x W``, N up to ``batch_size``; the order is kept."""
    batch: list[Tensor] = []
    for image in images:
        if batch and (len(batch) == batch_size or batch[0].shape != image.shape):
            yield torch.stack(batch)
            batch = []
        batch.append(image)
    if batch:
        yield torch.stack(batch)


@dataclass(frozen=True)
class Crop:
    """One draw of a crop and a flip; images of the same size that are given the same crop stay aligned.

    Attributes:
        top: First row of the crop, pixels.
        left: First column of the crop, pixels.
        size: Height and width of the crop, pixels.
        mirrored: Whether left and right are swapped after the crop.
    """

    top: int
    left: int
    size: Size
    mirrored: bool

    def apply(self, image: Image.Image) -> Image.Image:
        """The part of the image, with height and width as in ``size``; no pixel gets a new value."""
        height, width = self.size
        part = image.crop((self.left, self.top, self.left + width, self.top + height))
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.mirrored else part


@dataclass(frozen=True)
class Augmentation:
    """How training images vary.

    Attributes:
        image_size: Height and width of the random crop, pixels.
        flip: Whether half of the images are mirrored.
    """

    image_size: Size
    flip: bool = True

    def draw(self, loaded: Size, generator: torch.Generator) -> Crop:
        """A random crop in an image of (height, width) ``loaded``.

        Raises:
            InputError: The image is smaller than the crop.
        """
        height, width = self.image_size
        spare_rows, spare_columns = loaded[0] - height, loaded[1] - width
        if spare_rows < 0 or spare_columns < 0:
            raise InputError(
                f"load_size {loaded} is smaller than image_size {self.image_size}; make it at least as large"
            )
        top = int(torch.randint(spare_rows + 1, (), generator=generator))
        left = int(torch.randint(spare_columns + 1, (), generator=generator))
        mirrored = self.flip and bool(torch.rand((), generator=generator) < 0.5)
        return Crop(top, left, self.image_size, mirrored)
