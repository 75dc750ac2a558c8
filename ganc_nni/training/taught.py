"""What a teacher makes of fixed inputs, computed once and kept: on a CPU its forward pass is most of a step."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.core.io import load_weights, write_atomically
from ganc_nni.core.logs import progress_bar
from ganc_nni.data import Batch, TrainSet
from ganc_nni.data.folders import Shown
from ganc_nni.generators import Generator

_log = logging.getLogger(__name__)

BLOCK = 16
"""Inputs whose outputs share a file; a computation that is cut short goes on after the last whole one."""

IN_MEMORY = 1 << 30
"""Bytes of outputs that are read into memory; more of them are read from the disk one by one."""


class Taught:
    """The teacher's outputs for numbered inputs, and its distilled activations where they are wanted, in fp16.

    They lie in blocks below ``folder``, in a folder named by all that they depend on.

    Args:
        folder: Of the run.
        inputs: Makes input ``i``, ``C x H x W``.
        count: How many there are.
        content: All that the inputs depend on, in words.
        teacher: Makes the teacher, on its device; asked only where a block is missing.
        weights: SHA-256 of the teacher's file.
        features: Keep the distilled activations, too.
    """

    def __init__(
        self,
        folder: Path,
        inputs: Callable[[int], Tensor],
        count: int,
        content: str,
        teacher: Callable[[], Generator],
        weights: str,
        features: bool = False,
    ) -> None:
        self.count = count
        self.key = hashlib.sha256(f"{weights} {content} {count} {features}".encode()).hexdigest()
        self.folder = folder / self.key[:12]
        self._inputs = inputs
        self._teacher = teacher
        self._features = features
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._whole = False

    def __getstate__(self) -> dict[str, Any]:
        """For a loader's processes: what they read is there already."""
        self.make()
        return {**self.__dict__, "_inputs": None, "_teacher": None, "_kept": {}}

    def __len__(self) -> int:
        return self.count

    def digest(self) -> str:
        """A hash of all that the outputs depend on."""
        return self.key

    def __getitem__(self, number: int) -> Tensor:
        """Output ``number``, ``C x H x W`` float32."""
        if not 0 <= number < self.count:
            raise IndexError(f"output {number} of {self.count}")
        return self.all_of(number)[0]

    def all_of(self, number: int) -> tuple[Tensor, ...]:
        """Output ``number`` and then its distilled activations, ``c x h x w`` float32 each."""
        self.make()
        block, place = divmod(number, BLOCK)
        if self._file(0).stat().st_size * -(-self.count // BLOCK) > IN_MEMORY:
            with safe_open(self._file(block), "pt") as file:
                return tuple(file.get_slice(name)[place].float() for name in sorted(file.keys()))
        if block not in self._kept:
            self._kept[block] = load_weights(self._file(block))
        return tuple(self._kept[block][name][place].float() for name in sorted(self._kept[block]))

    def _is_whole(self, block: int) -> bool:
        """Whether the block can be read; one that is damaged is made again."""
        path = self._file(block)
        if not path.is_file():
            return False
        try:
            with safe_open(path, "pt") as file:
                return bool(file.keys())
        except (OSError, SafetensorError):
            _log.warning("%s: is damaged; what it held is computed again", path)
            return False

    def _file(self, block: int) -> Path:
        return self.folder / f"{block:05}.safetensors"

    @torch.no_grad()
    def make(self) -> None:
        """Compute what is not there yet.

        Raises:
            InputError: It does not fit on the disk.
        """
        if self._whole:
            return
        missing = [number for number in range(-(-self.count // BLOCK)) if not self._is_whole(number)]
        self._whole = True
        if not missing:
            return
        teacher = self._teacher()
        device = next(teacher.parameters()).device
        with progress_bar("outputs") as bar:
            task = bar.add_task("teacher", total=len(missing) * BLOCK)
            for done, block in enumerate(missing):
                rows: list[Sequence[Tensor]] = []
                for number in range(block * BLOCK, min(self.count, (block + 1) * BLOCK)):
                    image = self._inputs(number)[None].to(device)
                    with FasterKernels():
                        output, features = teacher.forward_with_features(image)
                    kept = [output, *features] if self._features else [output]
                    rows.append([each[0].half().cpu() for each in kept])
                    if done == 0 and len(rows) == 1:
                        self._say(len(missing) * BLOCK * sum(each.nbytes for each in rows[0]))
                    bar.advance(task)
                parts = {f"{index:03}": torch.stack(each) for index, each in enumerate(zip(*rows, strict=True))}
                write_atomically(self._file(block), partial(save_file, parts))

    def _say(self, size: int) -> None:
        size = min(size, size * self.count // BLOCK)
        free = shutil.disk_usage(next(each for each in self.folder.parents if each.is_dir())).free
        what = "outputs and distilled activations" if self._features else "outputs"
        if size > free:
            raise InputError(
                f"{self.folder}: the teacher's {what} for {self.count} images take {size / 2**20:.0f} MiB, "
                f"{free / 2**20:.0f} MiB are free; lower teacher.views, leave it out, or make room"
            )
        where = "read into memory" if size <= IN_MEMORY else "read one by one"
        _log.info(
            "the teacher's %s for %d images are computed once: %.0f MiB in %s, %s",
            what,
            self.count,
            size / 2**20,
            self.folder,
            where,
        )


@dataclass(eq=False)
class FixedViews(TrainSet):
    """A training set in which the same augmented views of each image come again, with what the teacher makes of them.

    Args:
        whole: The set with a fresh view in each epoch.
        views: Epochs after which they come again.
        outputs: The teacher's for all views, in the order of the set's items.
    """

    whole: TrainSet = field(kw_only=True)
    views: int = field(kw_only=True)
    outputs: Taught = field(kw_only=True)

    def __len__(self) -> int:
        return len(self.whole)

    def draw(self, number: int) -> tuple[Shown, Shown]:
        """See the base class."""
        return self.whole.draw(number % self.outputs.count)

    def taught(self, number: int) -> tuple[Tensor, ...]:
        """See the base class."""
        return self.outputs.all_of(number % self.outputs.count)


def fixed_views(
    whole: TrainSet, views: int, folder: Path, teacher: Callable[[], Generator], weights: str, features: bool
) -> FixedViews:
    """A training set of ``views`` views of each item; the teacher's outputs are computed when they are asked for.

    Args:
        whole: The set whose first epochs they are.
        views: How many epochs.
        folder: See :class:`Taught`, as the others.
        teacher: Makes the teacher.
        weights: SHA-256 of its file.
        features: Whether distilled activations are wanted.
    """
    content = f"{whole.sources.digest()} {whole.augmentation} {whole.seed} {type(whole).__name__} {len(whole)}"

    def source(view: int) -> Tensor:
        return whole.sources.placed(*whole.draw(view)[0])

    outputs = Taught(folder, source, len(whole) * views, content, teacher, weights, features)
    shared = whole.sources, whole.targets, whole.augmentation, whole.seed
    return FixedViews(*shared, whole=whole, views=views, outputs=outputs)


def with_taught(batch: Batch) -> tuple[Tensor, list[Tensor]] | None:
    """The teacher's output and distilled activations that a batch brings along, if it does."""
    return (batch.taught[0], list(batch.taught[1:])) if batch.taught else None
