"""Label files: which belong together, and how their ids are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ganc_nni.core.errors import InputError
from ganc_nni.data.decoding import check_sums, opened, orientation, stored_mode, upright
from ganc_nni.data.encoding import IGNORE_ID, allowed_ids
from ganc_nni.data.images import unreadable

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]

_MOST_ID = 2**16 - 1
_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")


class LabelledFile(NamedTuple):
    """An image file with its label map, and the map of its instances where they are used."""

    label: Path
    image: Path
    instance: Path | None = None


def holds_ids(path: Path) -> bool:
    """Whether an image file may be one of ids, by its mode: grey or with a palette, not in colours.

    Raises:
        InputError: The file cannot be read; the message names it.
    """
    try:
        with opened(path) as image:
            return image.mode in _MODES
    except Exception as error:
        raise unreadable(path, error) from error


def read_ids(path: Path) -> Integers:
    """The numbers in an image file of ids, ``H x W``, 0 to 65535; of a palette image, the palette's indices.

    Upright as EXIF says, like the image that it belongs to.

    Raises:
        InputError: The file cannot be read, or its pixels are no such numbers; the message names it.
    """
    try:
        with opened(path) as image:
            check_sums(image, path)
            stored, kind, mode = stored_mode(image), image.format, image.mode
            image.load()
            ids = np.asarray(upright(image, orientation(image), path))
    except Exception as error:
        raise unreadable(path, error) from error
    if kind == "JPEG" or mode not in _MODES:
        raise InputError(
            f"{path}: is a {kind} image of mode {mode}; expected one whole number a pixel, kept exactly: save it as "
            "PNG, grey of 8 or 16 bits or with a palette"
        )
    if mode == "I" and not 0 <= ids.min() <= ids.max() <= _MOST_ID:
        raise InputError(f"{path}: holds ids from {ids.min()} to {ids.max()}; expected 0 to {_MOST_ID}; renumber them")
    if stored.startswith(("L;2", "L;4")):  # Pillow spreads 2 and 4 bits over 0 to 255
        ids = ids // (85 if stored.startswith("L;2") else 17)
    return ids.astype(np.uint8) if mode == "1" else ids


@dataclass(frozen=True)
class LabelScheme:
    """What the ids in label files mean.

    Attributes:
        classes: Number of classes, 255 at most; their ids are 0 to ``classes - 1``.
        void_id: The id that means unknown; None: there is none.
        remap: From ids in the files to ids of classes or void; other ids stay as they are.
        cure: What helps against an id that means nothing, where the scheme is not a recipe's.

    Raises:
        InputError: Too many classes, or a void that is one of them.
    """

    classes: int
    void_id: int | None = None
    remap: Mapping[int, int] = field(default_factory=dict)
    cure: str = "correct the recipe's data.classes or data.void_id, or say with data.remap which class (or void) it is"

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= IGNORE_ID:
            raise InputError(f"{self.classes} classes of label maps; expected 1 to {IGNORE_ID}; merge some of them")
        if self.void_id is not None and not self.classes <= self.void_id <= _MOST_ID:
            raise InputError(
                f"void id {self.void_id}; expected an id from {self.classes} to {_MOST_ID}, which is no class"
            )

    def read(self, path: Path) -> Bytes:
        """The label map in a file, ``H x W``: ids of classes, :data:`IGNORE_ID` where void.

        Raises:
            InputError: The file cannot be read, or an id in it means nothing; the message names both.
        """
        ids = read_ids(path)
        meanings = self._meanings[ids]
        strange = meanings < 0
        if strange.any():
            found = np.unique(ids[strange]).tolist()
            row, column = np.argwhere(strange)[0]
            more = f" and {len(found) - 5} others" if len(found) > 5 else ""
            raise InputError(
                f"{path}: holds label id {', '.join(map(str, found[:5]))}{more} (column {column}, row {row}); expected "
                f"{allowed_ids(self.classes, self.void_id)}; {self.cure}"
            )
        return meanings.astype(np.uint8)

    @cached_property
    def _meanings(self) -> npt.NDArray[np.int16]:
        """The class, void or -1 of each id that a file can hold."""
        direct = np.full(_MOST_ID + 1, -1, dtype=np.int16)
        direct[: self.classes] = np.arange(self.classes)
        if self.void_id is not None:
            direct[self.void_id] = IGNORE_ID
        meanings = direct.copy()
        for found, meant in self.remap.items():
            meanings[found] = direct[meant]
        return meanings
