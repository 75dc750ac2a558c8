"""Test images through teacher and compressed generator, one file each; made with the networks at hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import write_atomically
from ganc_nni.data import Split, as_rgb, read_image
from ganc_nni.data.transforms import to_image
from ganc_nni.metrics.evaluator import translate

COLUMNS = ("input", "teacher", "compressed", "truth")
SHOWN = 6
LARGEST_SIDE = 320
"""Pixels of an embedded image; a report shows them no wider on any screen."""

SMALL_FILE = 24_000
"""Bytes up to which an image is embedded without loss."""


class Embedded(NamedTuple):
    """An image in the page itself.

    Attributes:
        kind: One of :data:`COLUMNS`.
        uri: Its content as a data URI.
        width: Pixels.
        height: Pixels.
    """

    kind: str
    uri: str
    width: int
    height: int


@torch.inference_mode()
def save_images(split: Split, networks: Mapping[str, nn.Module], device: torch.device, folder: Path) -> None:
    """Write test images, evenly spread, as ``folder/N_input.png``, ``N_teacher.png`` ...; label maps in colour."""
    for old in folder.glob("*.png"):
        old.unlink()
    for number, index in enumerate(split.spread(SHOWN)):
        source = split.sources[index][None]
        shown = {"input": source}
        shown |= {name: translate(network, source.to(device)).cpu() for name, network in networks.items()}
        if split.paired:
            shown["truth"] = split.targets[index][None]
        for name, image in shown.items():
            _save(folder / f"{number}_{name}.png", as_rgb(image)[0])


def _save(path: Path, pixels: Tensor) -> None:
    image = to_image(pixels)
    write_atomically(path, lambda temporary: image.save(temporary))


def embedded_images(folder: Path) -> list[list[Embedded]]:
    """What :func:`save_images` wrote, a list for each test image.

    Raises:
        InputError: A file is no image.
    """
    rows = []
    for number in range(SHOWN):
        files = [(kind, folder / f"{number}_{kind}.png") for kind in COLUMNS]
        rows.append([embed(kind, path) for kind, path in files if path.is_file()])
    return [row for row in rows if row]


def embed(kind: str, path: Path, largest_side: int = LARGEST_SIDE) -> Embedded:
    """An image file as part of a page, reduced if it is large.

    Raises:
        InputError: The file is no image.
    """
    try:
        image = read_image(path, 3)
    except InputError as error:
        raise InputError(
            f"{path}: cannot be read as an image: {error.__cause__ or error}; remove export/summary.json and run "
            "`ganc export` on the recipe again"
        ) from None
    image.thumbnail((largest_side, largest_side), Image.Resampling.LANCZOS)
    content, form = _encoded(image, "PNG"), "png"
    if len(content) > SMALL_FILE:
        content, form = _encoded(image, "JPEG", quality=88, subsampling=0), "jpeg"
    uri = f"data:image/{form};base64,{base64.b64encode(content).decode()}"
    return Embedded(kind, uri, image.width, image.height)


def _encoded(image: Image.Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, optimize=True, **options)
    return out.getvalue()
