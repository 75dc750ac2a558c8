"""Every file of a run is read once before anything is trained: what is damaged is told in one go, what is odd too."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.hashes import FileHashes
from ganc_nni.core.io import write_text
from ganc_nni.core.structured import read_cache
from ganc_nni.data.build import Data, Split
from ganc_nni.data.folders import ImageFileSet
from ganc_nni.data.image_sets import ImageSet
from ganc_nni.data.images import check_halves, read_image
from ganc_nni.data.label_files import LabelScheme, read_ids
from ganc_nni.data.labels import LabelFiles
from ganc_nni.recipe import DataRecipe

_log = logging.getLogger(__name__)

SHOWN = 3
"""Files that a message names; the others are counted."""

_THREADS = 4
_VERSION = 1
_Part = Literal["train", "search", "test"]
_Domain = Literal["sources", "targets"]


class Seen(NamedTuple):
    """What a file that can be read looks like.

    Attributes:
        height: Pixels, upright.
        width: Pixels, upright.
        seam: Of an image: how much larger the step between its halves is than other steps next to it; about 1 where
            the image goes on there, see :func:`seam`. None: nothing can be said.
        same: Of a label map: whether all of it is one class, or void; of a pair: whether both halves are one image.
    """

    height: int
    width: int
    seam: float | None = None
    same: bool = False


class _Job(NamedTuple):
    """A file with what is to be read from it; ``role`` names that."""

    path: Path
    role: str
    read: Callable[[Path], Seen]


class _Place(NamedTuple):
    """Where a file is used."""

    part: _Part
    domain: _Domain
    jobs: list[_Job]


def inspect(data: Data, recipe: DataRecipe, hashes: FileHashes) -> None:
    """Read every file of all sets to its end, and warn of what is improbable about them.

    What was read is remembered next to ``hashes`` by its content, so that a second start compares hashes alone.

    Raises:
        InputError: Files that cannot be used: the first are named with their faults, the others counted. Or single
            images that are laid out as pairs.
    """
    splits: dict[_Part, Split] = {"train": data.still, "search": data.search, "test": data.test}
    places = [
        _Place(part, domain, _jobs(images)) for part, split in splits.items() for domain, images in _domains(split)
    ]
    jobs = list(dict.fromkeys((job.path, job.role) for place in places for job in place.jobs))
    if not jobs:
        return  # drawn
    readers = {(job.path, job.role): job.read for place in places for job in place.jobs}
    memory = _Memory(hashes)
    seen: dict[tuple[Path, str], Seen] = memory.recall(jobs)
    missing = [job for job in jobs if job not in seen]
    problems: dict[Path, str] = {}
    if len(missing) > 500:
        _log.info("reading %d files once, before anything is trained", len(missing))
    with ThreadPoolExecutor(_THREADS) as threads:
        for job, found in zip(missing, threads.map(lambda job: _look(readers[job], job[0]), missing), strict=True):
            if isinstance(found, str):
                problems.setdefault(job[0], found)
            else:
                seen[job] = found
    problems |= _of_other_sizes(data, seen)
    if problems:
        raise InputError(_in_one_line(list(problems.values())))
    contents = memory.keep(seen, bool(missing))
    _refuse_single_images(data, recipe, seen)
    for told in _improbable(places, recipe, seen, contents):
        _log.warning("%s", told)


def _domains(split: Split) -> tuple[tuple[_Domain, ImageSet], ...]:
    if split.targets is split.sources:  # inputs alone
        return (("sources", split.sources),)
    return ("sources", split.sources), ("targets", split.targets)


def _in_one_line(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return f"{len(problems)} files cannot be used: {'; '.join(problems[:SHOWN])}{more}"


def _jobs(images: ImageSet) -> list[_Job]:
    if isinstance(images, ImageFileSet):
        whole = images.half is None
        return [_Job(path, "image" if whole else "pair", _image if whole else _pair) for path in images.paths]
    if isinstance(images, LabelFiles):
        scheme = images.scheme
        role = f"labels {scheme.classes} {scheme.void_id} {sorted(scheme.remap.items())}"
        jobs = [_Job(file.label, role, lambda path: _labels(scheme, path)) for file in images.files]
        instances = [file.instance for file in images.files if images.instances and file.instance is not None]
        return jobs + [_Job(path, "instances", _instances) for path in instances]
    return []


def _image(path: Path) -> Seen:
    image = read_image(path, 1)
    return Seen(image.height, image.width, seam(np.asarray(image)))


def _pair(path: Path) -> Seen:
    image = read_image(path, 1)
    check_halves(path, image.width)
    grey = np.asarray(image)
    left, right = np.hsplit(grey, 2)
    return Seen(image.height, image.width, seam(grey), same=bool((left == right).all()))


def _labels(scheme: LabelScheme, path: Path) -> Seen:
    ids = scheme.read(path)
    height, width = ids.shape
    return Seen(height, width, same=bool((ids == ids.flat[0]).all()))


def _instances(path: Path) -> Seen:
    height, width = read_ids(path).shape
    return Seen(height, width)


def _look(read: Callable[[Path], Seen], path: Path) -> Seen | str:
    """What is in the file, or what is wrong with it."""
    try:
        return read(path)
    except InputError as error:
        return str(error)


def _of_other_sizes(data: Data, seen: dict[tuple[Path, str], Seen]) -> dict[Path, str]:
    """Files that do not have the size of the file that they belong to."""
    sizes = {path: (found.height, found.width) for (path, _), found in seen.items()}
    found: dict[Path, str] = {}
    for split in (data.still, data.search, data.test):
        sources, targets = split.sources, split.targets
        if isinstance(sources, LabelFiles):
            for file in sources.files:
                for path in (file.label, *([file.instance] if sources.instances and file.instance else [])):
                    if path in sizes and file.image in sizes and sizes[path] != sizes[file.image]:
                        found[path] = (
                            f"{path}: is {_shown(sizes[path])} pixels; expected {_shown(sizes[file.image])}, the "
                            f"size of its image {file.image}; replace one of them"
                        )
        elif (
            split.paired
            and isinstance(sources, ImageFileSet)
            and isinstance(targets, ImageFileSet)
            and sources.half is None
        ):
            for one, other in zip(sources.paths, targets.paths, strict=True):
                if one in sizes and other in sizes and not _alike(sizes[one], sizes[other]):
                    found[one] = (
                        f"{one}: is {_shown(sizes[one])} pixels, {other} {_shown(sizes[other])}; expected pairs of one "
                        "shape, so that each pixel has its partner; cut one of them"
                    )
    return found


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size is a multiple of the other, to the pixel."""
    scale = other[0] / one[0]
    return abs(one[1] * scale - other[1]) <= max(1, scale)


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def seam(grey: np.ndarray) -> float | None:
    """Whether an image goes on across its middle: the step from its left half to its right over steps next to it.

    About 1 for a photo (the median over horse2zebra is 1.0, over CamVid 1.1), another number for two images side by
    side (facades 15, edges2shoes, whose halves are white there, 0.1).

    Args:
        grey: ``H x W`` in 0 to 255.

    Returns:
        None where the middle is flat or noise, so that nothing can be said.
    """
    height, width = grey.shape
    middle, reach = width // 2, 8
    shift = max(reach, width // 8)
    if middle < reach + shift or height < 4:
        return None
    pixels = grey[:, : middle + reach + 1].astype(np.float32)
    steps = np.abs(np.diff(pixels[:, middle - reach - 1 :], axis=1)).mean(axis=0)
    nearby = float(np.median(np.delete(steps, reach)))
    left = pixels[:, middle - reach : middle]
    apart = float(np.abs(left - pixels[:, middle - reach - shift : middle - shift]).mean())
    if nearby < 0.7 or nearby > 0.6 * apart:
        return None
    return float(steps[reach]) / nearby


def _goes_on(seen: Iterable[Seen]) -> bool | None:
    """Whether most images go on across their middle, as single images do; None: too few say anything."""
    everything = list(seen)
    told = [each.seam for each in everything if each.seam is not None]
    if len(told) < max(3, len(everything) / 5):
        return None
    return 0.6 < statistics.median(told) < 1.7


def _refuse_single_images(data: Data, recipe: DataRecipe, seen: dict[tuple[Path, str], Seen]) -> None:
    """Pairs side by side are about twice as wide as high, and have a step where the halves meet.

    Raises:
        InputError: Most images have neither.
    """
    pairs = {path: found for (path, role), found in seen.items() if role == "pair"}
    if not pairs:
        return
    height, width = recipe.image_size
    expected = (2.0, 2 * width / height)
    odd = [
        path
        for path, found in pairs.items()
        if not any(0.75 < found.width / found.height / ratio < 1.34 for ratio in expected)
    ]
    goes_on = _goes_on(pairs.values())
    if len(odd) <= len(pairs) / 2 and goes_on is not True:
        return
    if goes_on is False:
        return  # a step in the middle of most says that they are pairs, of whatever shape
    strange = len(odd) > len(pairs) / 2
    first = odd[0] if strange else next(iter(pairs))
    told = f"{first}: goes on across its middle like a single image, as most of {len(pairs)} files do"
    if strange:
        told = (
            f"{first}: is {_shown(pairs[first][:2])} pixels, and {len(odd)} of {len(pairs)} files are not about twice "
            "as wide as high, as two images side by side would be"
        )
    cure = (
        "layout paired cuts each image into its left half (A) and its right half (B); for pairs as two files of one "
        "name use the folders trainA and trainB, for single images layout unpaired"
    )
    if strange and goes_on:
        raise InputError(f"{told}; most go on across their middle like single images; {cure}")
    _log.warning("%s; are these pairs? %s", told, cure)


def _improbable(
    places: Sequence[_Place], recipe: DataRecipe, seen: dict[tuple[Path, str], Seen], contents: dict[Path, str]
) -> list[str]:
    """What is allowed but hardly meant, a line each."""
    told = []

    def files(domain: str, *parts: _Part) -> list[_Job]:
        return [job for place in places if place.domain == domain and place.part in parts for job in place.jobs]

    def by_content(jobs: Iterable[_Job]) -> dict[str, Path]:
        return {contents[job.path]: job.path for job in jobs if job.path in contents}

    learned = {domain: by_content(files(domain, "train", "search")) for domain in ("sources", "targets")}
    tested = {domain: by_content(files(domain, "test")) for domain in ("sources", "targets")}
    if recipe.layout != "labels":
        halves = any(job.role == "pair" for place in places for job in place.jobs)
        for name, found in (("training", learned), ("test", tested)):
            both = [] if halves else sorted(found["sources"].keys() & found["targets"].keys())
            if both:
                told.append(
                    f"{len(both)} of {len(found['sources'])} {name} images of one domain are in the other one too, for "
                    f"example {found['sources'][both[0]]} and {found['targets'][both[0]]}: is one folder a copy?"
                )
    images = "targets" if recipe.layout == "labels" else "sources"
    for domain in dict.fromkeys((images, "targets")):
        again = sorted(learned[domain].keys() & tested[domain].keys())
        if again:
            told.append(
                f"{len(again)} of {len(tested[domain])} test images are training images too, for example "
                f"{tested[domain][again[0]]} and {learned[domain][again[0]]}: test scores would be too good"
            )
    for domain in dict.fromkeys((images, "targets")):
        count = len({job.path for job in files(domain, "train", "search")})
        if (copies := count - len(learned[domain])) > count / 20:
            told.append(
                f"{copies} of {count} training images are copies of others; a copy may score the search while the "
                "other is trained on"
            )
    maps = [found for (_, role), found in seen.items() if role.startswith("labels")]
    if (constant := sum(found.same for found in maps)) > len(maps) / 2:
        told.append(f"{constant} of {len(maps)} label maps hold one class alone: are these the label maps?")
    pairs = [found for (_, role), found in seen.items() if role == "pair"]
    if (equal := sum(found.same for found in pairs)) > len(pairs) / 2:
        told.append(f"{equal} of {len(pairs)} pairs have the same image on both sides: there is nothing to learn")
    told += _odd_sizes(recipe, seen)
    unpaired = recipe.layout == "unpaired"
    alone = {path: found for (path, role), found in seen.items() if role == "image"}
    wide = [found for found in alone.values() if 1.9 < found.width / found.height < 2.1]
    if unpaired and len(wide) > len(alone) / 2 and _goes_on(alone.values()) is False:
        told.append(
            "most images are twice as wide as high, with a step in the middle: are these pairs side by side? layout "
            "paired takes them apart"
        )
    names = [{job.path.stem for job in files(domain, "train", "search")} for domain in ("sources", "targets")]
    if unpaired and len(names[0]) > 1 and names[0] == names[1] and not all(name.isdigit() for name in names[0]):
        told.append(
            "trainA and trainB hold the same names: if such files belong together, layout paired learns from pairs"
        )
    return list(dict.fromkeys(told))


def _odd_sizes(recipe: DataRecipe, seen: dict[tuple[Path, str], Seen]) -> list[str]:
    told = []
    sizes = {path: found for (path, role), found in seen.items() if role in ("image", "pair")}
    halves = {path for path, role in seen if role == "pair"}
    areas = {path: found.height * found.width for path, found in sizes.items()}
    small, large = min(areas, key=areas.__getitem__), max(areas, key=areas.__getitem__)
    if areas[large] > 64 * areas[small]:
        told.append(
            f"images differ wildly in size, from {_shown(sizes[small][:2])} ({small}) to {_shown(sizes[large][:2])} "
            f"({large}); all are resized to one size"
        )
    height, width = recipe.image_size

    def own(path: Path) -> tuple[float, float]:
        return sizes[path].height, sizes[path].width / (2 if path in halves else 1)

    enlarged = [path for path in sizes if own(path)[0] < height / 2 and own(path)[1] < width / 2]
    if enlarged:
        told.append(
            f"{len(enlarged)} of {len(sizes)} images have less than half of data.image_size ({width} x {height}) a "
            f"side and are enlarged, for example {enlarged[0]} ({_shown(sizes[enlarged[0]][:2])})"
        )
    squeezed = [path for path in sizes if not 0.5 < own(path)[1] / own(path)[0] * height / width < 2]
    if squeezed:
        told.append(
            f"{len(squeezed)} of {len(sizes)} images are squeezed to less than half in one direction by "
            f"data.image_size ({width} x {height}), for example {squeezed[0]} ({_shown(sizes[squeezed[0]][:2])})"
        )
    return told


class _Memory:
    """What earlier starts have seen, by content and role."""

    def __init__(self, hashes: FileHashes) -> None:
        self._file, self._hashes = hashes.cache.with_name("inspected.json"), hashes
        self._known: dict[str, Seen] = {}
        try:
            content = read_cache(self._file)
            if content["version"] == _VERSION:
                self._known = {str(key): _checked(*each) for key, each in content["seen"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):  # not there, or damaged
            self._known = {}

    def recall(self, jobs: Sequence[tuple[Path, str]]) -> dict[tuple[Path, str], Seen]:
        """What is known of these files, if their content is."""
        if not self._known:
            return {}
        contents = self._contents([path for path, _ in jobs])
        keys = {job: f"{contents.get(job[0])} {job[1]}" for job in jobs}
        return {job: self._known[key] for job, key in keys.items() if key in self._known}

    def keep(self, seen: dict[tuple[Path, str], Seen], changed: bool) -> dict[Path, str]:
        """Remember what was seen, and return each file's hash."""
        contents = self._contents([path for path, _ in seen])
        if changed:
            entries = {f"{contents[path]} {role}": found for (path, role), found in seen.items() if path in contents}
            try:
                write_text(self._file, json.dumps({"version": _VERSION, "seen": entries}))
            except (InputError, TrainingError) as error:  # the former: a link or the like is there
                _log.debug("not kept: %s", error)
        return contents

    def _contents(self, paths: Sequence[Path]) -> dict[Path, str]:
        """The hash of each file that can be read."""
        distinct = list(dict.fromkeys(paths))
        try:
            return dict(zip(distinct, self._hashes.of(distinct), strict=True))
        except InputError:
            return {path: digest for path in distinct if (digest := self._one(path)) is not None}

    def _one(self, path: Path) -> str | None:
        try:
            return self._hashes.of([path])[0]
        except InputError:
            return None


def _checked(height: object, width: object, seam: object, same: object) -> Seen:
    """What a damaged memory cannot pretend to have seen."""
    if not (isinstance(height, int) and isinstance(width, int) and isinstance(seam, float | None)):
        raise TypeError("expected sizes and a ratio")
    return Seen(height, width, seam, bool(same))
