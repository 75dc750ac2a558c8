"""From whatever a person drops on the page to what the run's generators read.

A picture is cut in the middle to the run's aspect ratio, then resized: nothing is squeezed, no border is made up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ganc_nni.data import IGNORE_ID, LabelScheme, encode, to_tensor
from ganc_nni.data.images import Channels, image_size
from ganc_nni.demo.palette import ids_of_colours
from ganc_nni.errors import InputError
from ganc_nni.recipe import DataRecipe

_LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")


def check_pixels(path: Path, name: str, most: int) -> None:
    """Refuse a picture that is too large, from its head alone.

    Args:
        path: The file.
        name: What the person calls it.
        most: Pixels.

    Raises:
        InputError: It has more pixels, or is no picture.
    """
    try:
        height, width = image_size(path)
    except InputError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise InputError(f"{name}: has far more than {most:,} pixels; give a smaller picture") from None
        raise _no_picture(name) from None
    if height * width > most:
        raise InputError(
            f"{name}: is {width} x {height} pixels; expected at most {most:,} in all; give a smaller picture, or start "
            "the demo with a larger --max-pixels"
        )


def open_picture(path: Path, name: str) -> Image.Image:
    """A picture upright as EXIF says, decoded; its first frame if it has several.

    Raises:
        InputError: It is no picture, or not a whole one.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise _no_picture(name) from None


def _no_picture(name: str) -> InputError:
    return InputError(f"{name}: cannot be read as a picture; expected a whole PNG, JPEG, WebP, BMP or TIFF file")


def flat(image: Image.Image, channels: Channels) -> Image.Image:
    """The picture in mode ``L`` (1 channel) or ``RGB`` (3), whatever mode it has; what is transparent lies on white."""
    if image.mode.startswith("I") or image.mode == "F":
        # 16 bits and more, which Pillow would clip at 255
        pixels = np.nan_to_num(np.asarray(image, dtype=np.float64))
        top = 65535.0 if pixels.max() > 255 else 255.0 if pixels.max() > 1 or image.mode != "F" else 1.0
        image = Image.fromarray((pixels.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def cut(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """The middle of the picture at (height, width) ``size``; as much of it as the aspect ratio allows."""
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

    def picture(self, image: Image.Image, name: str) -> torch.Tensor:
        """The input ``C x H x W`` for a picture, or for a label map in the colours of its classes.

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
        """The input ``C x H x W`` for a file: a picture, a label map of ids (grey or palette) or one in colours.

        Raises:
            InputError: It cannot be read, or holds ids that mean nothing.
        """
        image = open_picture(path, name)
        if not self.labels or image.mode not in _LABEL_MODES:
            return self.picture(image, name)
        assert self.data.classes is not None
        try:
            ids = LabelScheme(self.data.classes, self.data.void_id, self.data.remap).read(path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from None
        return self._encoded(np.asarray(cut(Image.fromarray(ids), self.data.image_size, Image.Resampling.NEAREST)))

    def _encoded(self, ids: np.ndarray) -> torch.Tensor:
        """A drawing knows no instances: each area of one class counts as one."""
        assert self.data.classes is not None
        pixels = torch.from_numpy(ids.astype(np.int64))
        void = IGNORE_ID if self.data.void_id is not None else None
        return encode(pixels, self.data.classes, void, pixels if self.data.instances else None)
