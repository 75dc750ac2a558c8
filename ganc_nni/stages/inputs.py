"""What the outcome of a stage depends on: values of the recipe, and the content of files, wherever they are.

Paths do not count. The same images, checkpoint or search space at another place are the same input; other content at
the same place is another one. Names of images count only through what they decide: the order, which files belong
together, and which of them score the search.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from ganc_nni.core.io import write_text
from ganc_nni.core.structured import read_cache
from ganc_nni.data import Data, build_data
from ganc_nni.generators import family_inputs
from ganc_nni.losses.distillation import loss_inputs
from ganc_nni.losses.vgg import vgg19_file
from ganc_nni.metrics import metric_inputs
from ganc_nni.recipe.fields import Influence, Unless, influence_of
from ganc_nni.run import Run
from ganc_nni.search.strategies import strategy_inputs
from ganc_nni.stages.stage import Reads, SplitName

FILE = "inputs.json"

_NAMED = 3
"""Names of files, and parts that differ, that a message holds."""

_DIGITS = 16
"""Of each file's hash, in what is kept to tell which files have changed."""


class Content(NamedTuple):
    """A file as an input.

    Attributes:
        name: For people; no part of what is compared.
        digest: SHA-256, hexadecimal; its first digits where it comes from a file.
    """

    name: str
    digest: str


@dataclass(frozen=True)
class Inputs:
    """All that one stage depends on, the stages before it included.

    Attributes:
        values: Of the recipe, by key.
        files: In their order, by what they are to the run: a key of the recipe, or ``train images`` and the like.
        made: Hashes of the weights that the stage has made, by file name, where they are read from a file.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Sequence[Content]] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A hash of it; equal keys mean equal outcomes up to rounding."""
        contents = {role: [each.digest for each in files] for role, files in self.files.items()}
        return hashlib.sha256(json.dumps([self.values, contents], sort_keys=True).encode()).hexdigest()

    def without_images(self) -> Inputs:
        """The rest: the recipe, and the files that it names."""
        return Inputs(self.values, {role: files for role, files in self.files.items() if role not in IMAGES})

    def images(self) -> Inputs:
        """Those of the splits alone."""
        return Inputs({}, {role: files for role, files in self.files.items() if role in IMAGES})

    def without(self, keys: Sequence[str]) -> Inputs:
        """All but the values of some keys."""
        return Inputs({key: value for key, value in self.values.items() if key not in keys}, self.files)

    def save(self, path: Path, key: str, made: Mapping[str, str] | None = None) -> None:
        """Write them down for :meth:`load`, under the key of the stage, with hashes of what it has made of them."""
        digits = {role: _DIGITS if role in IMAGES else None for role in self.files}
        files = {role: [(name, digest[: digits[role]]) for name, digest in each] for role, each in self.files.items()}
        content = {"key": key, "values": self.values, "files": files, "made": made or {}}
        write_text(path, json.dumps(content) + "\n")

    @classmethod
    def load(cls, path: Path, key: str | None = None) -> Inputs | None:
        """What was saved, under ``key`` if one is given; None if the file is of another one, damaged or not there."""
        try:
            saved = read_cache(path)
            files = {role: [Content(*map(str, entry)) for entry in each] for role, each in saved["files"].items()}
            made = {str(name): str(digest) for name, digest in saved.get("made", {}).items()}
            return cls(dict(saved["values"]), files, made) if key in (None, saved["key"]) else None
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def changes(self, before: Inputs) -> list[str]:
        """What is other than ``before``, a short sentence each; empty if nothing is."""
        found = []
        for key in sorted({*before.values, *self.values}):
            old, new = before.values.get(key), self.values.get(key)
            if old != new:
                found.append(f"{key} was {_short(old)}, is {_short(new)}")
        for role in sorted({*before.files, *self.files} - set(IMAGES)):
            old_file, new_file = _one(before.files.get(role)), _one(self.files.get(role))
            if old_file.digest != new_file.digest:
                same_name = old_file.name == new_file.name
                found.append(
                    f"{role}: {new_file.name} has another content"
                    if same_name
                    else f"{role} was {old_file.name}, is {new_file.name}"
                )
        return [*found, *_image_changes(before.files, self.files)]


IMAGES: dict[str, SplitName] = {"train images": "train", "search images": "search", "test images": "test"}
"""Files of the splits, as :attr:`Inputs.files` calls them."""


def in_short(changes: Sequence[str]) -> str:
    """The first changes in one line, and how many more there are."""
    more = f"; and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    return f"{'; '.join(changes[:_NAMED])}{more}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = "not given" if value is None else text
    return text if len(text) <= 60 else f"{text[:57]}..."


def _one(files: Sequence[Content] | None) -> Content:
    return files[0]._replace(digest=files[0].digest[:_DIGITS]) if files else Content("not given", "")


def _image_changes(before: Mapping[str, Sequence[Content]], after: Mapping[str, Sequence[Content]]) -> list[str]:
    """How the images of the splits differ, in at most one sentence."""
    if all(_digests(before.get(role, ())) == _digests(after.get(role, ())) for role in IMAGES):
        return []
    old, new = _by_name(before), _by_name(after)
    both = [name for name in new if name in old]
    kinds = {
        "replaced": [name for name in both if old[name].digest != new[name].digest],
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "moved between training and search split": [name for name in both if old[name].role != new[name].role],
    }
    parts = [
        f"{len(names)} {kind} ({', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' * (len(names) > _NAMED)})"
        for kind, names in kinds.items()
        if names
    ]
    return [f"images: {', '.join(parts) or 'another order'}"]


class _Image(NamedTuple):
    role: str
    digest: str


def _digests(files: Sequence[Content]) -> list[str]:
    return [digest[:_DIGITS] for _, digest in files]


def _by_name(files: Mapping[str, Sequence[Content]]) -> dict[str, _Image]:
    return {name: _Image(role, digest[:_DIGITS]) for role in IMAGES for name, digest in files.get(role, ())}


class Snapshot:
    """The inputs of a run's stages as they are at one time.

    Args:
        run: The run.
        data: Its images as they are found now; left out: as the run itself has found them.
    """

    def __init__(self, run: Run, data: Data | None = None) -> None:
        self.run = run
        self.data = run.data if data is None else data
        self._splits: dict[SplitName, list[Content]] = {}

    @classmethod
    def now(cls, run: Run) -> Snapshot:
        """Look at all files once more."""
        return cls(run, build_data(run.recipe.data, run.recipe.seed))

    def inputs(self, before: Iterable[Reads], own: Reads) -> Inputs:
        """Those of a stage that reads ``own`` and what the stages before it have made.

        Raises:
            InputError: A file cannot be read.
        """
        reads = [*before, own]
        named = {key for each in reads for key in (*each.keys, *each.more(self.run.recipe))}
        values: dict[str, Any] = {}
        files: dict[str, list[Content]] = {}
        for leaf in _leaves(self.run.recipe):
            key, value = leaf.key, leaf.value
            if not leaf.is_read(named):
                continue
            if key in _SPELLED:
                values |= _SPELLED[key](self.run)
                continue
            if key in _FOUND:
                value = _FOUND[key](self.run)
            if isinstance(value, Path):
                value = (value,)
            if isinstance(value, tuple) and value and isinstance(value[0], Path):
                files[key] = [self._file(path) for path in value]
            elif isinstance(value, dict) and key in _FOUND:
                values |= {f"{key}.{name}": each for name, each in value.items()}
            elif value is not None:
                values[key] = value
        splits = {split for each in reads for split in each.images} | set(own.scored_on)
        for role, split in IMAGES.items():
            if split in splits and (contents := self._images(split)):
                files[role] = contents
        found = Inputs(json.loads(json.dumps(values)), files)
        checkpoint = self.run.recipe.teacher.checkpoint
        return found if checkpoint is None else self._as_trained(found, checkpoint)

    def _as_trained(self, found: Inputs, checkpoint: Path) -> Inputs:
        """The inputs of a run that trains its teacher, if the checkpoint is what that very training has made."""
        saved = Inputs.load(checkpoint.with_name(FILE))
        if saved is None or not checkpoint.is_file() or "teacher.checkpoint" not in found.files:
            return found
        if saved.made.get(checkpoint.name) != found.files["teacher.checkpoint"][0].digest:
            return found
        own, other = (
            Inputs(
                {
                    key: value
                    for key, value in each.values.items()
                    if not key.startswith("teacher.") and key in saved.values
                },
                {
                    role: files
                    for role, files in each.files.items()
                    if not role.startswith("teacher.") and role in saved.files
                },
            )
            for each in (found, saved)
        )
        if own.changes(other):
            return found
        values = {key: value for key, value in found.values.items() if not key.startswith("teacher.")}
        files = {role: each for role, each in found.files.items() if not role.startswith("teacher.")}
        values |= {key: value for key, value in saved.values.items() if key.startswith("teacher.")}
        files |= {role: each for role, each in saved.files.items() if role.startswith("teacher.")}
        return Inputs(values, files)

    def _file(self, path: Path) -> Content:
        """A file that the recipe names; one that is not there is refused by whoever reads it."""
        return Content(path.name, self.run.hashes.of([path])[0] if path.is_file() else "not there")

    def _images(self, name: SplitName) -> list[Content]:
        """Those of a split in their order; none if they are drawn."""
        if name not in self._splits:
            splits = {"train": self.data.still, "search": self.data.search, "test": self.data.test}
            paths, root = splits[name].content_paths(), self.run.recipe.data.root
            names = [str(path.relative_to(root) if root and path.is_relative_to(root) else path) for path in paths]
            digests = self.run.hashes.of(paths)
            self._splits[name] = [Content(*each) for each in zip(names, digests, strict=True)]
        return self._splits[name]


_FOUND: dict[str, Callable[[Run], object]] = {
    "data.root": lambda run: "drawn" if run.recipe.data.root is None else "a folder",
    "student.space": lambda run: run.space.choices,
    "teacher.discriminator": lambda run: run.teacher_discriminator_path,
    "search.settings": lambda run: run.recipe.search.settings,
    "metric.weights": lambda run: run.metric.weights_file(run.recipe.metric),
    "teacher.perceptual_weights": lambda run: vgg19_file(run.recipe.teacher.perceptual_weights),
    "distillation.perceptual_weights": lambda run: vgg19_file(run.recipe.distillation.perceptual_weights),
}
"""What a run finds under a key, where that counts and not the value; any other path is read as a file."""

_SPELLED: dict[str, Callable[[Run], Mapping[str, object]]] = {
    "generator.family": lambda run: family_inputs(run.recipe.generator),
    "distillation.losses": lambda run: loss_inputs(run.recipe.distillation),
    "metric.name": lambda run: metric_inputs(run.recipe.metric),
    "search.strategy": lambda run: strategy_inputs(run.recipe.search),
}
"""Keys in place of which others are read, with their values."""


class _Leaf(NamedTuple):
    """A key of a recipe that is no section.

    Attributes:
        key: As ``section.key``.
        value: What the recipe says; None where another key makes it meaningless.
        influence: What the key changes.
    """

    key: str
    value: Any
    influence: Influence

    def is_read(self, named: Collection[str]) -> bool:
        """Whether a stage that names sections and keys reads this one."""
        by_section = self.influence in (Influence.RESULTS, Influence.LENGTH)
        return self.key in named or (by_section and self.key.partition(".")[0] in named)


def _leaves(section: BaseModel, prefix: str = "") -> Iterator[_Leaf]:
    """The keys of a recipe in the order of its sections."""
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            unread = any(getattr(section, each.key) is not None for each in info.metadata if isinstance(each, Unless))
            yield _Leaf(f"{prefix}{name}", None if unread else value, influence_of(info))
