"""Small picture files for the tests of this folder."""

from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Image.Image:
    """Random pixels of (height, width) size: no two crops, flips or seeds look alike."""
    shape = size if mode == "L" else (*size, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def save_folder(folder: Path, count: int, size: tuple[int, int] = (32, 32), seed: int = 0) -> list[Path]:
    """Random PNG files 0.png, 1.png, ..."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        noise(seed * 1000 + number, size).save(path)
    return paths
