"""From the data section of a recipe to the three sets that a run needs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ganc_nni.core.errors import InputError
from ganc_nni.core.logs import say_once
from ganc_nni.data.decoding import Channels
from ganc_nni.data.folders import ImageFileSet, PairedTrain, TrainSet, UnpairedTrain
from ganc_nni.data.image_sets import ImageSet, Redrawn
from ganc_nni.data.images import list_images, require_folders
from ganc_nni.data.label_files import LabelledFile, LabelScheme
from ganc_nni.data.label_folders import find_labelled
from ganc_nni.data.labels import LabelFiles
from ganc_nni.data.pair_folders import find_pairs
from ganc_nni.data.procedural import ProceduralImages, ProceduralLabels
from ganc_nni.data.splits import FileSplit, search_count, set_test_aside, split_by_fraction, split_by_list
from ganc_nni.data.transforms import Augmentation, Size
from ganc_nni.recipe import DataRecipe

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Images that score a generator.

    Attributes:
        sources: What the generator reads; for layout labels a :class:`~ganc_nni.data.labels.LabelMaps`.
        targets: The target domain; if ``paired``, ``targets[i]`` is the truth of ``sources[i]``. Of layout inputs the
            sources again: the teacher's outputs, which are the targets there, are the run's.
        paired: Whether sources and targets belong together.
    """

    sources: ImageSet
    targets: ImageSet
    paired: bool

    def content_paths(self) -> tuple[Path, ...]:
        """The files of both domains, each once where one file holds both; none where they are drawn."""
        return tuple(dict.fromkeys((*self.sources.content_paths(), *self.targets.content_paths())))

    def spread(self, count: int) -> list[int]:
        """Numbers of ``count`` images from the first to the last, or of all if there are fewer."""
        last, count = len(self.sources) - 1, min(count, len(self.sources))
        return [round(index * last / max(1, count - 1)) for index in range(count)]

    def redrawn(self, other: Split, seed: int) -> Split:
        """As many images as this split has, drawn from both splits by ``seed``; pairs stay together."""
        sources = Redrawn((self.sources, other.sources), len(self.sources), seed)
        targets = Redrawn((self.targets, other.targets), len(self.targets), seed)
        return Split(sources, targets, self.paired)


@dataclass(frozen=True)
class Data:
    """The data of a run; no image is in two of the three sets.

    Attributes:
        train: Augmented batches without a batch axis.
        search: What scores sub-generators during the search, set aside from the training images.
        test: What scores the outcome.
        still: The training set without augmentation, at the size of the others.
    """

    train: TrainSet
    search: Split
    test: Split
    still: Split


_Opener = Callable[[Size], ImageSet]
"""One domain of one set, for which the size is still open."""


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
    """Find, split and open the images of a recipe.

    Args:
        recipe: The data section.
        seed: Decides which training images score the search and how the others are shown (crops, flips, random
            targets); for the procedural set also the images.

    Raises:
        InputError: A folder, its images or the search list are not as the recipe says; the message names it.
    """
    if recipe.root is None:
        sets = _procedural(recipe, seed)
    elif recipe.layout == "labels":
        sets = _label_folders(recipe, recipe.root, seed)
    elif recipe.layout == "inputs":
        sets = _input_folders(recipe, recipe.root, seed)
    elif recipe.layout == "paired":
        sets = _paired_folders(recipe, recipe.root, seed)
    else:
        sets = _unpaired_folders(recipe, recipe.root, seed)
    augmentation = Augmentation(recipe.image_size, recipe.flip)
    sources, targets = _opened(recipe, sets.train, recipe.resized)
    kind = UnpairedTrain if recipe.layout == "unpaired" else PairedTrain
    train = kind(sources, targets, augmentation, seed)
    return Data(train, _split(recipe, sets.search), _split(recipe, sets.test), still=_split(recipe, sets.train))


def _split(recipe: DataRecipe, domains: _Domains) -> Split:
    sources, targets = _opened(recipe, domains, recipe.image_size)
    return Split(sources, targets, paired=recipe.paired)


def _opened(recipe: DataRecipe, domains: _Domains, size: Size) -> tuple[ImageSet, ImageSet]:
    """Sources and targets; of inputs alone the same set twice."""
    if recipe.layout == "inputs":
        inputs = domains.a(size)
        return inputs, inputs
    source, target = (domains.a, domains.b) if recipe.direction == "AtoB" else (domains.b, domains.a)
    return source(size), target(size)


def _channels(recipe: DataRecipe) -> tuple[Channels, Channels]:
    """Of the images of domain A and of domain B."""
    source, target = recipe.source_channels, recipe.target_channels
    return (source, target) if recipe.direction == "AtoB" else (target, source)


def _unpaired_folders(recipe: DataRecipe, root: Path, seed: int) -> _Sets:
    require_folders(root, ["trainA", "trainB", "testA", "testB"], "layout unpaired")
    a, b = _training_files(recipe, [list_images(root / "trainA"), list_images(root / "trainB")], seed)
    channels_a, channels_b = _channels(recipe)

    def domains(paths_a: list[Path], paths_b: list[Path]) -> _Domains:
        return _Domains(
            partial(ImageFileSet, paths_a, channels_a, cache=recipe.cache),
            partial(ImageFileSet, paths_b, channels_b, cache=recipe.cache),
        )

    test = domains(list_images(root / "testA"), list_images(root / "testB"))
    return _Sets(domains(a.train, b.train), domains(a.search, b.search), test)


def _input_folders(recipe: DataRecipe, root: Path, seed: int) -> _Sets:
    """Inputs alone: trainA and testA, or one folder, of which some images are the test set."""
    if any((root / name).is_dir() for name in ("trainA", "testA")):
        require_folders(root, ["trainA", "testA"], "layout inputs", ", or images alone")
        paths, test = list_images(root / "trainA"), list_images(root / "testA")
    else:
        paths, test = set_test_aside(list_images(root), recipe.search_fraction, seed)
    (split,) = _training_files(recipe, [paths], seed)

    def domains(paths: list[Path]) -> _Domains:
        inputs: _Opener = partial(ImageFileSet, paths, recipe.source_channels, cache=recipe.cache)
        return _Domains(inputs, inputs)

    return _Sets(domains(split.train), domains(split.search), domains(test))


def _paired_folders(recipe: DataRecipe, root: Path, seed: int) -> _Sets:
    in_two = [name for name in ("trainA", "trainB") if (root / name).is_dir()]
    if in_two and (root / "train").is_dir():
        raise InputError(
            f"{root}: holds train and {' and '.join(in_two)}; layout paired expects either train, whose images hold "
            "both halves, or trainA and trainB, whose files of one name are pairs; move away what is not meant"
        )
    if in_two:
        return _paired_in_two(recipe, root, seed)
    test = _test_part(root, "")
    note = " (or val), or trainA, trainB, testA, testB of equal names"
    require_folders(root, ["train", test], "layout paired", note)
    (split,) = _training_files(recipe, [list_images(root / "train")], seed)

    channels_a, channels_b = _channels(recipe)

    def halves(paths: list[Path]) -> _Domains:
        return _Domains(
            partial(ImageFileSet, paths, channels_a, half="left", cache=recipe.cache),
            partial(ImageFileSet, paths, channels_b, half="right", cache=recipe.cache),
        )

    return _Sets(halves(split.train), halves(split.search), halves(list_images(root / test)))


def _paired_in_two(recipe: DataRecipe, root: Path, seed: int) -> _Sets:
    """Pairs as two files of one name; for the search split A's name counts."""
    test = _test_part(root, "A")
    require_folders(root, ["trainA", "trainB", f"{test}A", f"{test}B"], "layout paired", " (or valA, valB)")
    partners = dict(find_pairs(root, "train"))
    (split,) = _training_files(recipe, [list(partners)], seed)
    channels_a, channels_b = _channels(recipe)

    def domains(pairs: dict[Path, Path]) -> _Domains:
        return _Domains(
            partial(ImageFileSet, list(pairs), channels_a, cache=recipe.cache),
            partial(ImageFileSet, list(pairs.values()), channels_b, cache=recipe.cache),
        )

    trained, searched = ({path: partners[path] for path in paths} for paths in split)
    return _Sets(domains(trained), domains(searched), domains(dict(find_pairs(root, test))))


def _test_part(root: Path, ending: str) -> str:
    """``test``, or ``val`` where there is no folder of that name alone."""
    test, val = ((root / f"{part}{ending}").is_dir() for part in ("test", "val"))
    if test and val:
        about = ("test or val", root)
        say_once(_log, about, "%s: holds test%s and val%s; test%s is the test set", root, ending, ending, ending)
    return "val" if val and not test else "test"


def _label_folders(recipe: DataRecipe, root: Path, seed: int) -> _Sets:
    assert recipe.classes is not None
    scheme = LabelScheme(recipe.classes, recipe.void_id, recipe.remap)
    train, test = find_labelled(root, recipe.structure, recipe.instances)
    by_label = {file.label: file for file in train}
    (split,) = _training_files(recipe, [list(by_label)], seed)

    def domains(files: list[LabelledFile]) -> _Domains:
        images = [file.image for file in files]
        return _Domains(
            partial(LabelFiles, files, scheme, instances=recipe.instances, cache=recipe.cache),
            partial(ImageFileSet, images, recipe.target_channels, cache=recipe.cache),
        )

    trained, searched = ([by_label[path] for path in paths] for paths in split)
    return _Sets(domains(trained), domains(searched), domains(test))


def _training_files(recipe: DataRecipe, listings: list[list[Path]], seed: int) -> list[FileSplit]:
    if recipe.search_list is not None:
        if len(recipe.search_list) == 1:
            return split_by_list(recipe.search_list[0], *listings, columns=recipe.layout == "labels")
        return [split_by_list(file, paths)[0] for file, paths in zip(recipe.search_list, listings, strict=True)]
    return [split_by_fraction(paths, recipe.search_fraction, seed) for paths in listings]


def _procedural(recipe: DataRecipe, seed: int) -> _Sets:
    if recipe.search_list is not None:
        raise InputError(
            f"{recipe.search_list[0]}: data.search_list names files, but without data.root the images are drawn, not "
            "read; remove data.search_list or set data.root"
        )
    total = recipe.procedural_images
    trained = total - search_count(total, recipe.search_fraction)

    channels_a, channels_b = _channels(recipe)

    def domains(first: int, end: int) -> _Domains:
        if recipe.paired:
            numbers_a = numbers_b = range(first, end)
        else:
            # even and odd scenes, so that no image has its truth in the other domain
            numbers_a, numbers_b = range(2 * first, 2 * end, 2), range(2 * first + 1, 2 * end, 2)
        a: _Opener = partial(ProceduralImages, "A", numbers_a, channels_a, seed=seed)
        if recipe.layout == "labels":
            void = recipe.void_id is not None
            a = partial(ProceduralLabels, numbers_a, void=void, instances=recipe.instances, seed=seed)
        return _Domains(a, partial(ProceduralImages, "B", numbers_b, channels_b, seed=seed))

    return _Sets(domains(0, trained), domains(trained, total), domains(total, total + total // 4))
