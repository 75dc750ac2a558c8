"""Which training images score the search and train nothing."""

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ganc_nni.core.errors import InputError
from ganc_nni.core.files import read_limited

_LARGEST_LIST = 256 << 20
"""Bytes. Names of a million images take a tenth of that."""

_SALT = 21194
"""Any number would do. With this one and seed 0 the public data sets come close to a fraction of 0.2: of horse2zebra's
1067 and 1334 images 210 and 270 are set aside, of facades' 400 82."""


class FileSplit(NamedTuple):
    """Two disjoint lists of image files, each sorted by name, neither empty."""

    train: list[Path]
    search: list[Path]


def split_by_fraction(paths: Sequence[Path], fraction: float, seed: int) -> FileSplit:
    """Set aside the files of one folder whose :func:`share` is below the fraction.

    Each file is judged by itself: whatever is added or removed, every other file keeps its side, and a greater fraction
    takes none back. So the fraction is met as well as chance allows: of n files ``n * fraction`` on average, with a
    standard deviation of ``sqrt(n * fraction * (1 - fraction))``.

    Args:
        paths: The files, in any order; of those that belong together (a label map and its image) one.
        fraction: The part that scores the search, between 0 and 1 (exclusive).
        seed: Any integer.

    Raises:
        InputError: Fewer than two files, or all of them on one side.
    """
    if len(paths) < 2:
        where = _folder(paths) if paths else "the training folder"
        raise InputError(
            f"{where}: holds {len(paths)} image(s); expected at least 2, one to train and one to score the search; "
            "add images"
        )
    split = _divided(paths, {path for path in paths if share(path, seed) < fraction})
    if not split.search or not split.train:
        which = "none" if not split.search else "every one"
        raise InputError(
            f"{_folder(paths)}: data.search_fraction {fraction:g} sets aside {which} of its {len(paths)} images, each "
            f"by its own name and seed {seed}; expected at least one to train and one to score the search; add images, "
            f"{'raise' if not split.search else 'lower'} data.search_fraction or name the images in data.search_list"
        )
    return split


def set_test_aside(paths: Sequence[Path], fraction: float, seed: int) -> FileSplit:
    """The files of one folder that train or score the search, and as many as score the search that are the test set.

    Each file is judged by itself, see :func:`split_by_fraction`: the test set has the greatest :func:`share`.

    Raises:
        InputError: The fraction leaves none to train, or no file is on one of the sides.
    """
    if fraction >= 0.5:
        raise InputError(
            f"data.search_fraction: got {fraction:g}; of a folder of inputs alone as many images again are the test "
            "set; expected less than 0.5, or folders trainA and testA"
        )
    split = _divided(paths, {path for path in paths if share(path, seed) >= 1 - fraction})
    if not split.search or not split.train:
        which = "none" if not split.search else "every one"
        raise InputError(
            f"{_folder(paths) if paths else 'the folder'}: data.search_fraction {fraction:g} makes {which} of its "
            f"{len(paths)} images a test image; add images, change data.search_fraction, or make folders trainA, testA"
        )
    return split


def share(path: Path, seed: int) -> float:
    """A number in [0, 1) that depends on ``seed``, the file's folder and its name without its ending alone.

    Uniform over names, so that the part ``fraction`` of all files is below ``fraction``. Neither where the data set is
    nor the form in which a file system stores accents counts.
    """
    name = unicodedata.normalize("NFC", f"{path.parent.name}/{path.stem}")
    digest = hashlib.sha256(f"{_SALT} {seed} {name}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def search_count(total: int, fraction: float) -> int:
    """How many of ``total`` (at least 2) drawn images the fraction stands for; one stays on each side."""
    return min(max(round(total * fraction), 1), total - 1)


def pick_listed(list_file: Path, paths: Sequence[Path]) -> list[Path]:
    """The files of a folder that a list names, in the folder's order; for the format see :func:`split_by_list`.

    Raises:
        InputError: The list cannot be read, is empty, or names a file that the folder does not hold.
    """
    wanted = _listed_names(list_file)
    _refuse_unknown(list_file, wanted, paths)
    if not wanted:
        raise InputError(f"{list_file}: names no image; expected one file name a line")
    return [path for path in paths if path.name in wanted]


def split_by_list(list_file: Path, *listings: Sequence[Path], columns: bool = False) -> list[FileSplit]:
    """Set aside exactly the files that a list names, in each of the folders that the list is for.

    Args:
        list_file: Text, one file name (without a folder) a line, like the ``.meta`` lists of
            mit-han-lab/gan-compression; blank lines and lines that start with # are ignored. A name found in
            several folders is set aside in each of them.
        listings: The files of each folder.
        columns: Lines may also name files that belong together, each with its folder, as the lists for label maps
            there do (``train_label/X.png train_img/X.jpg train_inst/X.png``); the first one counts.

    Raises:
        InputError: The list cannot be read, names a file that no folder holds, or leaves a folder with nothing to
            search or nothing to train on.
    """
    wanted = _listed_names(list_file)
    if columns:
        wanted = {_first_file(line) for line in wanted}
    folders = _refuse_unknown(list_file, wanted, *listings)
    splits = [_divided(paths, {path for path in paths if path.name in wanted}) for paths in listings]
    for paths, split in zip(listings, splits, strict=True):
        if not split.search or not split.train:
            which = "no image" if not split.search else "every image"
            raise InputError(
                f"{list_file}: names {which} of {_folder(paths) if paths else 'an empty folder'}; expected at least "
                f"one to score the search and one to train on in each of {folders}; correct the list"
            )
    return splits


def _refuse_unknown(list_file: Path, wanted: set[str], *listings: Sequence[Path]) -> str:
    """The folders of the listings, in words, if they hold every wanted name."""
    known = {path.name for paths in listings for path in paths}
    folders = ", ".join(str(_folder(paths)) for paths in listings if paths)
    if unknown := sorted(wanted - known):
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise InputError(
            f"{list_file}: names {', '.join(unknown[:3])}{more}, not found in {folders}; "
            "expected names of images there, with their extension; correct the list"
        )
    return folders


def _listed_names(list_file: Path) -> set[str]:
    try:
        lines = read_limited(list_file, _LARGEST_LIST).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{list_file}: the list of images cannot be read: {error}; expected a text file, one file name a line"
        ) from None
    return {name for line in lines if (name := line.strip()) and not name.startswith("#")}


def _first_file(line: str) -> str:
    """The name of the first file of a line, without its folder; a name may hold spaces."""
    columns = line.split()
    several = all(PurePosixPath(column).suffix for column in columns)
    return PurePosixPath(columns[0] if several else line).name


def _folder(paths: Sequence[Path]) -> Path:
    """The folder that holds all the files, directly or in folders of its own."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def _divided(paths: Sequence[Path], chosen: set[Path]) -> FileSplit:
    ordered = sorted(paths, key=lambda path: path.name)
    return FileSplit([path for path in ordered if path not in chosen], [path for path in ordered if path in chosen])
