"""A training of more epochs goes on from one of fewer, instead of from its first step.

All that is random depends on the seed and on the number of the epoch, image and step; the learning rate depends on the
number of the epoch. So where two schedules have the same learning rate in every epoch that is done, what comes out is
what one uninterrupted training would have made. Where they have not, it is not quite, and a warning says what differs.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ganc_nni.core.errors import InputError, cannot_write
from ganc_nni.core.files import read_note
from ganc_nni.core.io import read_json, write_text
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.recipe.fields import Influence, keys_of
from ganc_nni.stages.inputs import FILE as INPUTS
from ganc_nni.stages.inputs import Inputs
from ganc_nni.stages.stage import Stage
from ganc_nni.training.checkpointing import BEST, LAST, Start, find_start
from ganc_nni.training.gan import linear_decay

_log = logging.getLogger(__name__)

_RATES = "continued.json"
"""In a stage's folder: learning rates of epochs, as parts of the full one, that another schedule has set."""


class _Origin(NamedTuple):
    """A training to go on from.

    Attributes:
        folder: Where it is.
        start: Its checkpoint.
        rates: The learning rate of each epoch that is done or begun, as a part of the full one.
        exact: Whether the longer training would have had the same.
        epochs: What its schedule says.
    """

    folder: Path
    start: Start
    rates: list[float]
    exact: bool
    epochs: str


def begin_from_shorter(stage: Stage, recipe: Recipe, inputs: Inputs, folder: Path, others: Iterable[Path]) -> None:
    """Fill the folder of a stage with the checkpoints of a training that differs in its number of epochs alone.

    That one stays as it is. Without one, nothing is done.

    Args:
        stage: One that trains; of another one nothing can go on.
        recipe: Says how long it trains now.
        inputs: What it is made of.
        folder: Its folder, which is not there yet.
        others: Folders that trainings of this stage have left.

    Raises:
        TrainingError: The disk is full, or the like.
    """
    schedule = stage.schedule(recipe)
    if not isinstance(schedule, Schedule):
        return
    found = [origin for other in others if (origin := _origin(other, stage.training, schedule, inputs)) is not None]
    if not found:
        return
    origin = max(found, key=lambda each: (each.exact, each.start.epoch, each.start.batches))
    new = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        assert origin.start.path is not None
        _share(origin.start.path, new / LAST)
        if (origin.folder / BEST).is_file():
            _share(origin.folder / BEST, new / BEST)
        for name in ("tensorboard", "warmup"):
            if (origin.folder / name).is_dir():
                shutil.copytree(origin.folder / name, new / name, copy_function=_share)
        if not origin.exact:
            write_text(new / _RATES, json.dumps({"rates": origin.rates}) + "\n")
        new.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from None
    where = f"epoch {origin.start.epoch}" + (f" and {origin.start.batches} batches" if origin.start.batches else "")
    _log.info("stage %s goes on after %s of %s (%s)", stage.name, where, origin.folder, origin.epochs)
    if not origin.exact:
        _log.warning("%s", _difference(stage.name, origin, schedule))


def _difference(stage: str, origin: _Origin, schedule: Schedule) -> str:
    """How the training differs from one that nothing has interrupted, in one line."""
    wanted = linear_decay(schedule)
    other = [epoch for epoch, rate in enumerate(origin.rates) if rate != wanted(epoch)]
    first, last = other[0], other[-1]
    rest = f"the epochs that follow are trained at {wanted(len(origin.rates)):.3g} of it and on as the recipe says"
    again = f"to train from the first epoch, remove {origin.folder} and {origin.folder.parent / stage} and call again"
    return (
        f"stage {stage}: epochs {first + 1} to {last + 1} were trained at {origin.rates[first]:.3g} to "
        f"{origin.rates[last]:.3g} of the full learning rate; in one training of {schedule.epochs} epochs and "
        f"{schedule.decay_epochs} of decay it would have been {wanted(first):.3g} to {wanted(last):.3g}; "
        f"{rest}; {again}"
    )


def _origin(folder: Path, section: str, schedule: Schedule, inputs: Inputs) -> _Origin | None:
    """What there is to go on from in a folder; None if it is of something else, of as many epochs, or empty."""
    before = Inputs.load(folder / INPUTS)
    begun = folder / "begun.txt"
    lengths = {f"{section}.{key}": key for key in keys_of(Schedule, Influence.LENGTH)}
    if before is None or read_note(begun) in ("", "changed"):
        return None
    if inputs.without([*lengths]).changes(before.without([*lengths])):
        return None
    try:
        old = schedule.model_copy(update={key: int(before.values[path]) for path, key in lengths.items()})
        start = find_start(folder)
    except (KeyError, TypeError, ValueError):
        return None
    if start.path is None or start.epoch > schedule.total_epochs:
        return None
    begun_epochs = start.epoch + (start.batches > 0)
    rates = _rates(folder, old, begun_epochs)
    exact = rates == [linear_decay(schedule)(epoch) for epoch in range(begun_epochs)]
    if not exact and schedule.total_epochs <= old.total_epochs:
        return None
    return _Origin(folder, start, rates, exact, f"epochs {old.epochs}, decay_epochs {old.decay_epochs}")


def _rates(folder: Path, schedule: Schedule, epochs: int) -> list[float]:
    """The learning rates of the first epochs of a training, which may have gone on from another one itself."""
    path = folder / _RATES
    try:
        earlier = [float(rate) for rate in read_json(path)["rates"]] if path.is_file() else []
    except (InputError, KeyError, TypeError, ValueError):
        earlier = []
    return [*earlier, *(linear_decay(schedule)(epoch) for epoch in range(len(earlier), epochs))][:epochs]


def _share(path: str | Path, place: str | Path) -> None:
    """Have a file at a second place without its size; what is shared is replaced, never written into."""
    try:
        os.link(path, place)
    except OSError:  # a file system without hard links
        shutil.copy2(path, place)
