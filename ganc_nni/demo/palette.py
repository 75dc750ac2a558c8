"""Label maps as colours that a person can paint with, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from ganc_nni.core.errors import InputError
from ganc_nni.data import IGNORE_ID, colorize
from ganc_nni.data.transforms import to_image

_CLOSE = 12
"""How far each of red, green and blue may be off; the colours of two classes differ by 32 at least in one of them."""


def class_colours(classes: int, void: bool) -> dict[int, tuple[int, int, int]]:
    """Red, green and blue, 0 to 255, of every class; with ``void`` those of :data:`IGNORE_ID` too.

    Void looks as :func:`ganc_nni.data.as_rgb` shows its channel, which is the one after the classes.
    """
    ids = [*range(classes), *([IGNORE_ID] if void else [])]
    row = np.asarray(to_image(colorize(torch.tensor([range(len(ids))]))))[0]
    return {label: (int(red), int(green), int(blue)) for label, (red, green, blue) in zip(ids, row, strict=True)}


def ids_of_colours(image: Image.Image, classes: int, void: bool, name: str) -> npt.NDArray[np.uint8]:
    """The classes in an image that is painted with their colours, ``H x W``; void is :data:`IGNORE_ID`.

    A brush has soft edges, whose mixed colours may be those of a third class: pixels of no class's colour take the
    class of the nearest pixel that has one.

    Args:
        image: In mode ``RGB``.
        classes: Number of classes.
        void: Whether there is void.
        name: What the person calls it.

    Raises:
        InputError: Less than half of it is painted with these colours.
    """
    colours = class_colours(classes, void)
    pixels = np.asarray(image)
    found, where = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    distance, nearest = cKDTree(list(colours.values())).query(found.astype(float), p=np.inf)
    known = (distance <= _CLOSE)[where].reshape(pixels.shape[:2])
    if known.mean() < 0.5:
        raise InputError(
            f"{name}: only {known.mean():.0%} of it has the colour of a class; expected a label map: grey PNG of ids "
            f"0 to {classes - 1}, or painted with the colours next to the drawing"
        )
    ids = np.array(list(colours), dtype=np.uint8)[nearest][where].reshape(pixels.shape[:2])
    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return ids[rows, columns]
