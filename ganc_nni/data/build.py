"""From the data section of a recipe to the three sets that a run needs."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from ganc_nni.data.folders import PairedTrain, Pictures, TrainSet, UnpairedTrain
from ganc_nni.data.images import Channels, list_images
from ganc_nni.data.pictures import PictureSet
from ganc_nni.data.procedural import ProceduralPictures
from ganc_nni.data.splits import FileSplit, search_count, split_by_fraction, split_by_list
from ganc_nni.data.transforms import Augmentation, Size
from ganc_nni.errors import InputError
from ganc_nni.recipe import DataRecipe


@dataclass(frozen=True)
class Split:
    """Pictures that score a generator.

    Attributes:
        sources: What the generator reads.
        targets: The target domain; if ``paired``, ``targets[i]`` is the truth of ``sources[i]``.
        paired: Whether sources and targets belong together.
    """

    sources: PictureSet
    targets: PictureSet
    paired: bool


@dataclass(frozen=True)
class Data:
    """The data of a run; no picture is in two of the three sets.

    Attributes:
        train: Augmented batches without a batch axis: ``C x H x W`` in [-1, 1].
        search: What scores sub-generators during the search, set aside from the training pictures.
        test: What scores the outcome.
    """

    train: TrainSet
    search: Split
    test: Split


class _Opener(Protocol):
    """One domain of one set, for which channels and size are still open."""

    def __call__(self, *, channels: Channels, size: Size) -> PictureSet: ...


@dataclass(frozen=True)
class _Domains:
    """Both domains of one set."""

    a: _Opener
    b: _Opener


@dataclass(frozen=True)
class _Sets:
    train: _Domains
    search: _Domains
    test: _Domains


def build_data(recipe: DataRecipe, seed: int) -> Data:
    """Find, split and open the pictures of a recipe.

    Args:
        recipe: The data section.
        seed: Decides which training pictures score the search and, for the procedural set, the pictures. Crops,
            flips and random targets are drawn from torch's generator while training.

    Raises:
        InputError: A folder, its pictures or the search list are not as the recipe says; the message names it.
    """
    if recipe.root is None:
        sets = _procedural(recipe, seed)
    elif recipe.layout == "paired":
        sets = _paired_folders(recipe, recipe.root, seed)
    else:
        sets = _unpaired_folders(recipe, recipe.root, seed)
    augmentation = Augmentation(recipe.image_size, recipe.flip)
    sources, targets = _opened(recipe, sets.train, recipe.resized)
    kind = PairedTrain if recipe.layout == "paired" else UnpairedTrain
    return Data(kind(sources, targets, augmentation), _split(recipe, sets.search), _split(recipe, sets.test))


def _split(recipe: DataRecipe, domains: _Domains) -> Split:
    sources, targets = _opened(recipe, domains, recipe.image_size)
    return Split(sources, targets, paired=recipe.layout == "paired")


def _opened(recipe: DataRecipe, domains: _Domains, size: Size) -> tuple[PictureSet, PictureSet]:
    """Sources and targets."""
    source, target = (domains.a, domains.b) if recipe.direction == "AtoB" else (domains.b, domains.a)
    return source(channels=recipe.source_channels, size=size), target(channels=recipe.target_channels, size=size)


def _unpaired_folders(recipe: DataRecipe, root: Path, seed: int) -> _Sets:
    _require(root, ["trainA", "trainB", "testA", "testB"], recipe.layout)
    a, b = _training_files(recipe, [list_images(root / "trainA"), list_images(root / "trainB")], seed)
    open_files = partial(Pictures, cache=recipe.cache)
    return _Sets(
        train=_Domains(partial(open_files, a.train), partial(open_files, b.train)),
        search=_Domains(partial(open_files, a.search), partial(open_files, b.search)),
        test=_Domains(
            partial(open_files, list_images(root / "testA")), partial(open_files, list_images(root / "testB"))
        ),
    )


def _paired_folders(recipe: DataRecipe, root: Path, seed: int) -> _Sets:
    test = "test" if (root / "test").is_dir() or not (root / "val").is_dir() else "val"
    _require(root, ["train", test], recipe.layout)
    (split,) = _training_files(recipe, [list_images(root / "train")], seed)

    def halves(paths: list[Path]) -> _Domains:
        open_half = partial(Pictures, paths, cache=recipe.cache)
        return _Domains(partial(open_half, half="left"), partial(open_half, half="right"))

    return _Sets(halves(split.train), halves(split.search), halves(list_images(root / test)))


def _training_files(recipe: DataRecipe, listings: list[list[Path]], seed: int) -> list[FileSplit]:
    if recipe.search_list is not None:
        if len(recipe.search_list) == 1:
            return split_by_list(recipe.search_list[0], *listings)
        return [split_by_list(file, paths)[0] for file, paths in zip(recipe.search_list, listings, strict=True)]
    return [split_by_fraction(paths, recipe.search_fraction, seed) for paths in listings]


def _require(root: Path, folders: list[str], layout: Literal["unpaired", "paired"]) -> None:
    missing = [name for name in folders if not (root / name).is_dir()]
    if missing:
        what = f"without {', '.join(missing)}" if root.is_dir() else "no such folder"
        instead = " (or val)" if layout == "paired" else ""
        raise InputError(
            f"{root}: {what}; layout {layout} expects the sub-folders {', '.join(folders)}{instead}; set data.root to "
            "the folder that holds them, or GANC_DATA to the folder that data.root starts from"
        )


def _procedural(recipe: DataRecipe, seed: int) -> _Sets:
    if recipe.search_list is not None:
        raise InputError(
            f"{recipe.search_list[0]}: data.search_list names files, but without data.root the pictures are drawn, not "
            "read; remove data.search_list or set data.root"
        )
    total = recipe.procedural_images
    trained = total - search_count(total, recipe.search_fraction)

    def domains(first: int, end: int) -> _Domains:
        if recipe.layout == "paired":
            numbers_a = numbers_b = range(first, end)
        else:
            # even and odd scenes, so that no picture has its truth in the other domain
            numbers_a, numbers_b = range(2 * first, 2 * end, 2), range(2 * first + 1, 2 * end, 2)
        return _Domains(
            partial(ProceduralPictures, "A", numbers_a, seed=seed),
            partial(ProceduralPictures, "B", numbers_b, seed=seed),
        )

    return _Sets(domains(0, trained), domains(trained, total), domains(total, total + total // 4))
