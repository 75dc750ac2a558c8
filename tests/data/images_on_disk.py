"""Small image files for the tests of this folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Image.Image:
    """Random pixels of (height, width) size: no two crops, flips or seeds look alike."""
    shape = size if mode == "L" else (*size, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def patches(
    seed: int, size: tuple[int, int] = (32, 32), low: int = 0, high: int = 5, dtype: DTypeLike = np.uint8
) -> NDArray[Any]:
    """Ids from low to high (exclusive) in patches of 4x4 pixels, of (height, width) size."""
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    ids = np.random.default_rng(seed).integers(low, high, (rows, columns), dtype=dtype)
    return ids.repeat(4, axis=0).repeat(4, axis=1)[: size[0], : size[1]]


def save_labelled(root: Path, part: str, count: int, size: tuple[int, int] = (32, 32), seed: int = 0) -> None:
    """Files PART_label/N.png with ids 0 to 4, PART_img/N.jpg and 16-bit PART_inst/N.png."""
    for kind in ("label", "img", "inst"):
        (root / f"{part}_{kind}").mkdir(parents=True)
    for number in range(count):
        one = seed * 1000 + number
        Image.fromarray(patches(one, size)).save(root / f"{part}_label" / f"{number}.png")
        noise(one, size).save(root / f"{part}_img" / f"{number}.jpg")
        Image.fromarray(patches(one + 500, size, 0, 40000, np.uint16)).save(root / f"{part}_inst" / f"{number}.png")


def save_cityscapes(root: Path, cities: Mapping[str, int], part: str, size: tuple[int, int] = (32, 32)) -> None:
    """Cityscapes' own files: so many of each city."""
    for city, count in cities.items():
        truth, images = root / "gtFine" / part / city, root / "leftImg8bit" / part / city
        truth.mkdir(parents=True)
        images.mkdir(parents=True)
        for number in range(count):
            name = f"{city}_{number:06d}_000019"
            Image.fromarray(patches(number, size)).save(truth / f"{name}_gtFine_labelIds.png")
            numbers = patches(number + 1, size, 0, 34000, np.uint16)
            Image.fromarray(numbers).save(truth / f"{name}_gtFine_instanceIds.png")
            noise(number, size).save(truth / f"{name}_gtFine_color.png")
            noise(number, size).save(images / f"{name}_leftImg8bit.png")


def save_folder(folder: Path, count: int, size: tuple[int, int] = (32, 32), seed: int = 0) -> list[Path]:
    """Random PNG files 0.png, 1.png, ..."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        noise(seed * 1000 + number, size).save(path)
    return paths
