"""Folders of images as feature networks get them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganc_nni.data.images import read_image
from ganc_nni.data.transforms import to_tensor

Resize = Literal["pytorch-fid", "clean"]
"""Who resizes: the feature network itself, as in pytorch-fid, or clean-fid's antialiased resizer before it."""

_SIDE = 299  # pixels; what Inception v3 sees


class ImageFiles:
    """RGB images ``3 x H x W`` in [-1, 1], at their own size or resized the clean way; may differ in size.

    Args:
        paths: The files.
        resize: ``clean``: :func:`resize_clean`; ``pytorch-fid``: left to the network.

    Raises:
        InputError: From an item, when its file cannot be read; the message names it.
    """

    def __init__(self, paths: Sequence[Path], resize: Resize = "pytorch-fid") -> None:
        self.paths = tuple(paths)
        self.resize = resize

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = read_image(self.paths[index], channels=3)
        return resize_clean(image) / 127.5 - 1 if self.resize == "clean" else to_tensor(image)

    def digest(self) -> str:
        """See :class:`~ganc_nni.metrics.Images`."""
        parts = (hashlib.sha256(path.read_bytes()).hexdigest() for path in self.paths)
        return hashlib.sha256("\n".join((self.resize, *parts)).encode()).hexdigest()


def resize_clean(image: Image.Image) -> Tensor:
    """An RGB image at 299 x 299, ``3 x 299 x 299`` float32 in [0, 255].

    Antialiased bicubic without rounding to 8 bits: clean-fid's (Parmar et al., arXiv 2104.11222, section 3).
    """
    bands = [band.convert("F").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC) for band in image.split()]
    return torch.from_numpy(np.stack([np.asarray(band) for band in bands])).clamp(0, 255)
