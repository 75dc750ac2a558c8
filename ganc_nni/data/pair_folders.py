"""Pairs of images as two files of one name, in a folder a domain."""

from collections.abc import Mapping
from pathlib import Path

from ganc_nni.core.errors import InputError
from ganc_nni.data.images import list_images


def find_pairs(root: Path, part: str) -> list[tuple[Path, Path]]:
    """Each file of ``PARTA`` with that of ``PARTB`` whose name is the same except for its suffix, sorted by name.

    Raises:
        InputError: A folder is missing or empty, a file has no partner or more than one; the message names it.
    """
    return pair_up(root / f"{part}A", root / f"{part}B")


def pair_up(folder_a: Path, folder_b: Path) -> list[tuple[Path, Path]]:
    """Each image of one folder with that of the other whose name is the same except for its suffix, sorted by name.

    Raises:
        InputError: A folder is missing or empty, a file has no partner or more than one; the message names it.
    """
    a, b = _by_stem(folder_a), _by_stem(folder_b)
    for one, other, folder in ((a, b, folder_b), (b, a, folder_a)):
        lonely = [path for stem, path in one.items() if stem not in other]
        if lonely:
            others = ", ".join(path.name for path in lonely[1:3])
            more = f" and {len(lonely) - 3} more" if len(lonely) > 3 else ""
            also = f" (nor have {others}{more})" if others else ""
            raise InputError(
                f"{lonely[0]}: has no partner in {folder}{also}; expected a file {lonely[0].stem}.* there; add it, or "
                "remove what has no partner"
            )
    return [(a[stem], b[stem]) for stem in sorted(a)]


def _by_stem(folder: Path) -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if (other := found.setdefault(path.stem, path)) != path:
            raise InputError(f"{path}: has the same name as {other.name}; expected one of them; remove the other")
    return found
