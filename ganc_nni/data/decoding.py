"""Image files as 8 bits a channel: the one reader of training, scores, ``ganc translate``, statistics, demo and report.

It shows an image as a viewer does: turned as EXIF says, the first frame of several, transparent parts on white, and
more than 8 bits scaled so that black stays black and white stays white. Where the white of a file cannot be known, the
file is refused. Colour profiles are not applied.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile
from PIL.ExifTags import Base

from ganc_nni.core.errors import InputError
from ganc_nni.core.logs import say_once

_log = logging.getLogger(__name__)

Channels = Literal[1, 3]

Image.init()
FORMATS = tuple({"JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "PPM", "GIF", "JPEG2000", "AVIF"} & Image.OPEN.keys())
"""Formats of Pillow that are read, whatever the file's suffix; others, such as EPS, would start programs."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation (Exif 2.32, tag 0x0112)."""

_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE, _SAMPLE_FORMAT, _S_MAX_SAMPLE_VALUE = 258, 281, 339, 341
_SIGNED, _FLOAT = 2, 3  # of _SAMPLE_FORMAT
_WHITE_16 = 2**16 - 1


class _Depth(NamedTuple):
    """How the samples of a file of more than 8 bits are stored.

    Attributes:
        bits: Of a sample.
        kind: Of numbers.
        white: The value that is white, where a tag or the format says so; None: it does not.
    """

    bits: int
    kind: Literal["unsigned", "signed", "float"]
    white: float | None


@contextmanager
def opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """An image file of a known format, at its first frame, not decoded yet.

    Raises:
        Exception: Pillow's, of many kinds: the file is damaged or of another kind.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # it would be waited for
        raise OSError("is a pipe, a socket or a device")
    with Image.open(path, formats=FORMATS) as image:
        frames = 1
        with contextlib.suppress(Exception):  # what follows the first frame may be damaged
            frames = getattr(image, "n_frames", 1)
            image.seek(0)
        if frames > 1 and image.format != "MPO":  # what phones attach to a photo is no frame
            about = ("frames", path.parent)
            say_once(_log, about, "%s: has %d frames; only the first of each file is read", path, frames)
        yield image


def upright(image: Image.Image, orientation: int, path: Path) -> Image.Image:
    """The image as viewers show it, turned or mirrored by its EXIF ``orientation``."""
    if orientation == 1:
        return image
    say_once(
        _log,
        ("orientation", path.parent),
        "%s: is shown as its EXIF orientation says, as in viewers; others in this folder alike",
        path,
    )
    return image.transpose(_TURNS[orientation])


def orientation(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied, 1 to 8; damaged EXIF data say nothing, as in viewers."""
    if image.format == "TIFF":  # Pillow has applied it, to the size too
        return 1
    with contextlib.suppress(Exception):
        value = image.getexif().get(Base.Orientation)
        return value if value in _TURNS else 1
    return 1


def stored_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for how the samples of an opened, not yet decoded image are stored, such as ``RGB;16B``."""
    arguments: Any = image.tile[0].args if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def check_sums(image: ImageFile.ImageFile, path: Path) -> None:
    """Compare a PNG's pixels with their checksums, which Pillow does not do when it decodes them.

    Other formats that are read have none.

    Raises:
        Exception: Pillow's, of many kinds: the file is damaged.
    """
    if image.format == "PNG":
        with Image.open(path, formats=("PNG",)) as again:
            again.verify()


def decode(path: Path, channels: Channels) -> Image.Image:
    """A whole image in mode ``L`` (1 channel) or ``RGB`` (3).

    Raises:
        InputError: More than 8 bits, and what is white cannot be known.
        Exception: Pillow's, of many kinds: the file is damaged or of another kind.
    """
    with opened(path) as file:
        check_sums(file, path)
        depth, tiles = _depth(file), list(file.tile)
        file.load()
        image: Image.Image = file
        if depth is not None:
            grey = file.mode in ("I", "F", "L") or file.mode.startswith("I;16")
            image = _grey_of_many_bits(file, depth, path) if grey else _colours_of_16_bits(file, depth, tiles, path)
        if image.has_transparency_data:
            say_once(
                _log,
                ("transparency", path.parent),
                "%s: has transparency; such parts lie on white, here and in others of this folder",
                path,
            )
        return upright(flat(image, channels), orientation(file), path)


def flat(image: Image.Image, channels: Channels) -> Image.Image:
    """An image of 8 bits a channel in mode ``L`` (1 channel) or ``RGB`` (3); transparent pixels are put on white."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode == "LAB":
        image = ImageCms.applyTransform(image, _lab_to_srgb()) or image
    return image.convert("L" if channels == 1 else "RGB")


def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(*profiles, "LAB", "RGB")


def _tag(image: Image.Image, number: int) -> float | None:
    """The first value of a TIFF tag."""
    value = getattr(image, "tag_v2", {}).get(number)
    first = value[0] if isinstance(value, tuple) and value else value
    return float(first) if isinstance(first, int | float) else None


def _depth(image: ImageFile.ImageFile) -> _Depth | None:
    """How an opened, not yet decoded image is stored, if it has more than 8 bits, negative values or fractions."""
    number, tiff = _tag(image, _SAMPLE_FORMAT), image.format == "TIFF"
    kind: Literal["unsigned", "signed", "float"] = "unsigned"
    if image.mode == "F" or number == _FLOAT:
        kind = "float"
    elif number == _SIGNED:
        kind = "signed"
    grey = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if not (grey or kind == "signed" or ";16" in stored_mode(image)):
        return None
    bits = 32 if kind == "float" else int((_tag(image, _BITS_PER_SAMPLE) if tiff else None) or 16)
    white = _white_by_tag(image, kind)
    if white is None and bits not in (16, 32):
        white = float(2**bits - 1)  # 12 bits, packed
    if white is None and image.format in ("PPM", "JPEG2000") and kind != "float":
        white = float(_WHITE_16)  # the file names its own white, and Pillow scales by it
    return _Depth(bits, kind, white)


def _white_by_tag(image: Image.Image, kind: str) -> float | None:
    """White as TIFF's MaxSampleValue or SMaxSampleValue has it, if it is the largest number of so many bits, or 1.0.

    Other values are the brightest that happens to be in the image: the tags are for statistics too.
    """
    known = {float(2**bits - 1) for bits in range(8, 33)} | ({1.0} if kind == "float" else set())
    told = (_tag(image, tag) for tag in (_MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE))
    return next((most for most in told if most in known), None)


def _grey_of_many_bits(image: Image.Image, depth: _Depth, path: Path) -> Image.Image:
    samples = np.asarray(image)
    if depth.kind == "signed" and depth.bits == 8:
        samples = samples.view(np.int8)
    elif depth.kind == "unsigned" and depth.bits == 32:
        samples = samples.view(np.uint32)
    shades = Image.fromarray(_scaled(samples, depth, path))
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # of PNG: the one value that is transparent
        shades.putalpha(Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8)))
    return shades


def _colours_of_16_bits(image: Image.Image, depth: _Depth, tiles: list[Any], path: Path) -> Image.Image:
    """The image with 8 bits. Pillow has kept the high byte of each sample, which does where white is 65535."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    high = np.asarray(image)
    colours = high.shape[-1] - (image.mode == "RGBA")
    if depth.white == _WHITE_16 or (depth.white is None and high[..., :colours].max() >= 64):
        return image
    with opened(path) as again:  # once more in the other order of bytes, for the low one
        again.tile = [tile._replace(args=_other_byte(tile.args)) for tile in tiles]
        again.load()
        low = np.asarray(again)
    if tiles[0].args == "LA;16B":
        low = low[..., 1:2]
    samples = high[..., :colours].astype(np.uint16) * 256 + low[..., :colours]
    pixels = np.concatenate([_scaled(samples, depth, path), high[..., colours:]], axis=-1)
    return Image.frombytes(image.mode, image.size, pixels.tobytes())


def _other_byte(arguments: Any) -> Any:
    """The arguments of a decoder of 16-bit samples, changed so that it keeps the low byte of each."""
    if isinstance(arguments, tuple):
        return (_other_byte(arguments[0]), *arguments[1:])
    if arguments == "LA;16B":  # has no other order; as four channels of 8 bits its low bytes are the second and fourth
        return "RGBA"
    other = "16L" if arguments.endswith("16B") or (arguments.endswith("16N") and sys.byteorder == "big") else "16B"
    return arguments[:-3] + other


def _scaled(samples: npt.NDArray[Any], depth: _Depth, path: Path) -> npt.NDArray[np.uint8]:
    """The samples in 0 to 255.

    Raises:
        InputError: What is black and white cannot be known.
    """
    cure = (
        "save it with 8 bits, or as TIFF whose tag MaxSampleValue (281) is its white, such as 4095"
        if depth.kind != "float"
        else "scale its values to 0..1, or save it with 8 bits"
    )
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: holds values that are not finite; expected numbers from 0 to 1; {cure}")
    least, most = samples.min().item(), samples.max().item()
    full = 1.0 if depth.kind == "float" else float(2 ** (depth.bits - (depth.kind == "signed")) - 1)
    white = depth.white if depth.white is not None else full
    if least < 0 or most > white:
        raise InputError(
            f"{path}: holds values from {least:g} to {most:g}; expected 0 (black) to {white:g} (white), because its "
            f"samples are of {depth.bits} bits ({depth.kind}); {cure}"
        )
    if depth.white is None and depth.kind != "float" and 0 < most < (full + 1) / 4:
        raise InputError(
            f"{path}: holds values up to {most:g} in samples of {depth.bits} bits; expected some above {full // 4:g}, "
            f"for white would be {full:g}, unless they are of fewer bits, which the file does not say; {cure}"
        )
    if depth.kind == "float":
        say_once(_log, ("float", path.parent), "%s: has fractions; 0 is read as black, %g as white", path, white)
    if white == _WHITE_16:
        return (samples.astype(np.uint32) >> 8).astype(np.uint8)  # as Pillow reads colours of 16 bits
    return np.rint(samples.astype(np.float64) * (255 / white)).astype(np.uint8)
