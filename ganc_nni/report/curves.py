"""Losses and validation scores of a training, from TensorBoard's event files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ganc_nni.core.errors import InputError

MOST_VALUES = 5000
"""Of one curve; of longer ones TensorBoard keeps that many at random, and the last."""


class Curve(NamedTuple):
    """One logged figure.

    Attributes:
        name: As it was logged, ``loss/gan`` or ``score/largest``.
        steps: Batches since the beginning, rising.
        values: One for each step, finite.
    """

    name: str
    steps: list[int]
    values: list[float]


def read_curves(folder: Path) -> list[Curve]:
    """All losses and scores below a ``tensorboard`` folder, scores first; none if there is no such folder.

    Raises:
        InputError: The event files cannot be read.
    """
    if not folder.is_dir():
        return []
    events = EventAccumulator(str(folder), size_guidance={"scalars": MOST_VALUES, "images": 1, "tensors": 1})
    try:
        events.Reload()
    except Exception as error:  # a damaged file makes protobuf, struct and TensorBoard raise their own types
        raise InputError(
            f"{folder}: cannot be read as TensorBoard's event files: {error or type(error).__name__}; restore or "
            "remove the folder"
        ) from None
    curves = []
    for tag in sorted(events.Tags()["scalars"], key=lambda tag: (not tag.startswith("score"), tag)):
        found = [(event.step, event.value) for event in events.Scalars(tag) if math.isfinite(event.value)]
        if found and tag.startswith(("loss", "score/")):
            steps, values = zip(*sorted(found), strict=True)
            curves.append(Curve(tag, list(steps), list(values)))
    return curves
