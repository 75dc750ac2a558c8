"""From whatever a person drops on the page to what the run's generators read.

An image is cut in the middle to the run's aspect ratio, then resized: nothing is squeezed, no border is made up.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, TiffImagePlugin

from ganc_nni.core.errors import InputError
from ganc_nni.data import IGNORE_ID, LabelScheme, encode, read_image, to_tensor
from ganc_nni.data.decoding import flat, opened
from ganc_nni.data.label_files import holds_ids
from ganc_nni.demo.palette import ids_of_colours
from ganc_nni.recipe import DataRecipe

T = TypeVar("T")


def check_pixels(path: Path, name: str, most: int) -> None:
    """Refuse an image that is too large, from its head alone.

    Args:
        path: The file.
        name: What the person calls it.
        most: Pixels, also of one tile of a TIFF file: all of a tile is decoded, however small the image.

    Raises:
        InputError: It has more pixels, or is no image.
    """
    try:
        with opened(path) as image:
            width, height = image.size
            tags = getattr(image, "tag_v2", {})
            tile = int(tags.get(TiffImagePlugin.TILEWIDTH, 1)) * int(tags.get(TiffImagePlugin.TILELENGTH, 1))
    except Image.DecompressionBombError:
        raise InputError(f"{name}: has far more than {most:,} pixels; give a smaller image") from None
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise _no_image(name) from None
    if tile > most:
        raise InputError(f"{name}: has tiles of far more than {most:,} pixels; give a smaller image")
    if height * width > most:
        raise InputError(
            f"{name}: is {width} x {height} pixels; expected at most {most:,} in all; give a smaller image, or start "
            "the demo with a larger --max-pixels"
        )


def open_image(path: Path, name: str) -> Image.Image:
    """An image in mode ``RGB`` as training and scores read it, see :mod:`ganc_nni.data.decoding`.

    Raises:
        InputError: It is no image, not a whole one, or its white cannot be known.
    """
    return _by_name(path, name, lambda: read_image(path, 3))


def _by_name(path: Path, name: str, read: Callable[[], T]) -> T:
    """What ``read`` returns; its errors call the file by the name that the person knows."""
    try:
        return read()
    except InputError as error:
        if error.__cause__ is not None:  # Pillow's
            raise _no_image(name) from None
        raise InputError(str(error).replace(str(path), name)) from None


def _no_image(name: str) -> InputError:
    return InputError(f"{name}: cannot be read as an image; expected a whole PNG, JPEG, WebP, BMP or TIFF file")


def cut(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """The middle of the image at (height, width) ``size``; as much of it as the aspect ratio allows."""
    height, width = size
    return ImageOps.fit(image, (width, height), resampling)


class Preparation:
    """What the generators of a run read.

    Args:
        data: The run's data section.
    """

    def __init__(self, data: DataRecipe) -> None:
        self.data = data
        self.labels = data.layout == "labels"

    def image(self, image: Image.Image, name: str) -> torch.Tensor:
        """The input ``C x H x W`` for an image, or for a label map in the colours of its classes.

        Raises:
            InputError: A label map in other colours.
        """
        size = self.data.image_size
        if not self.labels:
            return to_tensor(cut(flat(image, self.data.source_channels), size, Image.Resampling.BICUBIC))
        assert self.data.classes is not None
        colours = cut(flat(image, 3), size, Image.Resampling.NEAREST)
        return self._encoded(ids_of_colours(colours, self.data.classes, self.data.void_id is not None, name))

    def upload(self, path: Path, name: str) -> torch.Tensor:
        """The input ``C x H x W`` for a file: an image, a label map of ids (grey or palette) or one in colours.

        Raises:
            InputError: It cannot be read, or holds ids that mean nothing.
        """
        if not self.labels or not _by_name(path, name, lambda: holds_ids(path)):
            return self.image(open_image(path, name), name)
        assert self.data.classes is not None
        scheme = LabelScheme(self.data.classes, self.data.void_id, self.data.remap)
        ids = _by_name(path, name, lambda: scheme.read(path))
        return self._encoded(np.asarray(cut(Image.fromarray(ids), self.data.image_size, Image.Resampling.NEAREST)))

    def _encoded(self, ids: np.ndarray) -> torch.Tensor:
        """A drawing knows no instances: each area of one class counts as one."""
        assert self.data.classes is not None
        pixels = torch.from_numpy(ids.astype(np.int64))
        void = IGNORE_ID if self.data.void_id is not None else None
        return encode(pixels, self.data.classes, void, pixels if self.data.instances else None)
