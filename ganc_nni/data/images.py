"""Image files: which ones a folder holds, and how one is read."""

import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from ganc_nni.core.errors import InputError
from ganc_nni.core.logs import say_once
from ganc_nni.core.memory import is_out_of_memory
from ganc_nni.data.decoding import Channels, decode, opened, orientation

_log = logging.getLogger(__name__)

Half = Literal["left", "right"]

EXTENSIONS = ("jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "ppm", "pgm")


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name.

    Other files, hidden files (their name starts with a dot) and sub-folders are left out.

    Raises:
        InputError: There is no such folder, it cannot be read, or it holds no image.
    """
    expected = f"expected a folder of images ({', '.join(EXTENSIONS)})"
    try:
        if not folder.exists():
            raise InputError(f"{folder}: no such folder; {expected}; check the path, or put the images there")
        if not folder.is_dir():
            raise InputError(f"{folder}: is a file; {expected}; give the folder that holds it")
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
        paths = [path for path in entries if _is_image(path)]
        nested = [path.name for path in entries if path.is_dir() and _holds_images(path)]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}; {expected}; check its permissions") from None
    left_out = _left_out(entries)
    if not paths:
        found = [f"its sub-folders {_first(nested)} hold some"] if nested else []
        found += [left_out] if left_out else []
        hint = f" ({'; '.join(found)})" if found else ""
        raise InputError(f"{folder}: holds no image{hint}; {expected}; check the path, or put the images there")
    if left_out:
        say_once(_log, ("left out", folder), "%s: %s", folder, left_out)
    if nested:
        say_once(_log, ("nested", folder), "%s: the images in its sub-folders %s are left out", folder, _first(nested))
    return paths


def _left_out(entries: Sequence[Path]) -> str:
    """Which files that cannot be used as images a folder holds, in words; hidden files are nobody's concern."""
    shown = [path for path in entries if not path.name.startswith(".")]
    broken = [path.name for path in shown if _has_suffix(path) and not path.is_file() and not path.is_dir()]
    counts = Counter(path.suffix.lower() for path in shown if not _has_suffix(path) and path.is_file())
    if not counts and not broken:
        return ""
    # first: who links images into a folder believes that they are there
    kinds = [f"{len(broken)} that lead to no file ({_first(broken)})"] if broken else []
    kinds += [
        f"{count} with suffix {suffix}" if suffix else f"{count} without suffix" for suffix, count in counts.items()
    ]
    return f"files are left out: {_first(kinds)}"


def _holds_images(folder: Path) -> bool:
    """Whether there is an image in a folder or below it."""
    with contextlib.suppress(OSError):
        return not folder.name.startswith(".") and any(_is_image(path) for path in folder.rglob("*"))
    return False


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def require_folders(root: Path, names: Sequence[str], expects: str, note: str = "") -> None:
    """Check that a data set has its folders.

    Args:
        root: The folder of the data set.
        names: The sub-folders that it must have.
        expects: Who expects them, for the message.
        note: What else the message says of them.

    Raises:
        InputError: One of them is missing.
    """
    missing = [name for name in names if not (root / name).is_dir()]
    if missing:
        what = f"without {', '.join(missing)}" if root.is_dir() else "no such folder"
        below = sorted(path for path in root.glob("*/") if all((path / name).is_dir() for name in names))
        what += f" ({_first([str(path) for path in below])} has them)" if below else ""
        raise InputError(
            f"{root}: {what}; {expects} expects the sub-folders {', '.join(names)}{note}; set data.root to the folder "
            "that holds them, or GANC_DATA to the folder that data.root starts from"
        )


def _is_image(path: Path) -> bool:
    return _has_suffix(path) and not path.name.startswith(".") and path.is_file()


def _has_suffix(path: Path) -> bool:
    return path.suffix.lower().removeprefix(".") in EXTENSIONS


def read_image(path: Path, channels: Channels) -> Image.Image:
    """A whole image, decoded, in mode ``L`` (1 channel) or ``RGB`` (3), whatever mode the file has.

    Upright as EXIF says, its first frame if it has several, on white where it is transparent.

    Raises:
        InputError: The file cannot be read or decoded to its end, or has more than 8 bits and its white cannot be
            known; the message names it.
    """
    try:
        return decode(path, channels)
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise unreadable(path, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as :func:`read_image` shows it, pixels; reads no more than the file's head.

    Raises:
        InputError: The file cannot be read; the message names it.
    """
    try:
        with opened(path) as image:
            size = image.height, image.width
            return size[::-1] if orientation(image) >= 5 else size
    except Exception as error:
        raise unreadable(path, error) from error


def read_bytes(path: Path) -> bytes:
    """A whole file.

    Raises:
        InputError: It cannot be read; the message names it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; restore or remove it") from None


def unreadable(path: Path, error: Exception) -> Exception:
    """What to raise for a file that Pillow cannot decode; too little memory for it stays that."""
    if is_out_of_memory(error):
        return MemoryError(f"{path}: is too large for the memory that there is")
    return InputError(
        f"{path}: cannot be read as an image: {error}; expected a whole {' '.join(EXTENSIONS)} file; "
        "replace or remove it"
    )


def check_halves(path: Path, width: int) -> None:
    """Refuse an image that two images of the same size side by side cannot make.

    Raises:
        InputError: Its width, pixels, does not divide by two; the message names it.
    """
    if width % 2:
        raise InputError(
            f"{path}: is {width} pixels wide; expected an even width, two images of the same size side by side; "
            "replace or remove it"
        )


def read_half(path: Path, channels: Channels, half: Half) -> Image.Image:
    """One half of an image that holds two of the same size side by side.

    Raises:
        InputError: The file cannot be read, or its width does not divide by two; the message names it.
    """
    image = read_image(path, channels)
    width, height = image.size
    check_halves(path, width)
    left = 0 if half == "left" else width // 2
    return image.crop((left, 0, left + width // 2, height))
