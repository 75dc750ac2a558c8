"""What the scores of a compressed generator say, in one sentence."""

from __future__ import annotations

import math
from typing import NamedTuple

from ganc_nni.metrics.bootstrap import Interval

TOLERANCE = 0.02
"""Part of the teacher's score that counts as no difference where there is no interval.

FIDs of 50,000 images of one generator vary by about so much (Karras et al., arXiv 2206.00364).
"""

CURE = "fine-tune for more epochs (finetune.epochs) or allow a larger search.budget"


class Verdict(NamedTuple):
    """Whether the compressed generator is as good as its teacher.

    Attributes:
        sentence: One sentence. Where the outcome is not good enough it names what to change.
        good: False: the sentence should be read before any ratio of costs. None: too little is known.
    """

    sentence: str
    good: bool | None


def verdict(
    metric: str,
    higher_is_better: bool,
    compressed: float | None,
    teacher: float | None = None,
    interval: Interval | None = None,
    untouched: float | None = None,
    against_teacher: bool = False,
) -> Verdict:
    """Judge a compressed generator by scores of the same images; NaN and None both mean that there is no score.

    Args:
        metric: The score's name.
        higher_is_better: Its direction.
        compressed: Score of the compressed generator.
        teacher: Score of its teacher.
        interval: That of the teacher's score, 95 %; None: :data:`TOLERANCE` takes its place.
        untouched: Score of the inputs themselves, as if nothing had been done to them.
        against_teacher: The score compares images with the teacher's own, so that its own score is perfect and says
            nothing.
    """
    own, taught, still = _known(compressed), None if against_teacher else _known(teacher), _known(untouched)

    def better(one: float, other: float) -> bool:
        return _better(one, other, higher_is_better)

    if own is None:
        return Verdict(
            f"The compressed generator's {metric} is no number: its training has diverged; lower "
            "finetune.learning_rate and fine-tune again.",
            False,
        )
    if still is not None and not better(own, still):
        if taught is not None and not better(taught, still):
            return Verdict(
                f"Neither the compressed generator ({metric} {own:.4g}) nor its teacher ({taught:.4g}) is better than "
                f"the untouched input ({still:.4g}): see first whether the teacher is one for this data.direction or "
                "has to be trained for longer (teacher.schedule.epochs).",
                False,
            )
        return Verdict(
            f"The compressed generator is not better than its untouched input ({metric} {own:.4g} against "
            f"{still:.4g}): {CURE}.",
            False,
        )
    if against_teacher:
        known = f", the untouched input's is {still:.4g}" if still is not None else ""
        return Verdict(f"The compressed generator's {metric} to its teacher's images is {own:.4g}{known}.", None)
    if taught is None:
        if still is None:
            return Verdict(
                f"The compressed generator's {metric} of {own:.4g} has no score of a teacher to be compared with.", None
            )
        return Verdict(
            f"The compressed generator is better than its untouched input ({metric} {own:.4g} against {still:.4g}), "
            "but has no score of a teacher to be compared with.",
            None,
        )
    low, high = _range(taught, interval)
    known = f"the teacher's 95 % interval, {low:.4g} to {high:.4g}"
    where = known if interval is not None else f"{TOLERANCE:.0%} of the teacher's {taught:.4g}"
    if low <= own <= high:
        return Verdict(
            f"The compressed generator is as good as its teacher: {metric} {own:.4g} is within {where}.", True
        )
    if better(own, taught):
        return Verdict(
            f"The compressed generator scores better than its teacher: {metric} {own:.4g} is outside {where}; a "
            "smaller search.budget may do as well.",
            True,
        )
    return Verdict(
        f"The compressed generator is worse than its teacher: {metric} {own:.4g} is outside {where}; {CURE}.", False
    )


def doubt_of_teacher(
    metric: str, higher_is_better: bool, teacher: float | None, untouched: float | None, checkpoint: str | None
) -> str | None:
    """A warning where a teacher is not better than its untouched input; None where it is, or either score is missing.

    Args:
        metric: The score's name.
        higher_is_better: Its direction.
        teacher: Score of the teacher.
        untouched: Score of the inputs themselves, on the same images.
        checkpoint: The teacher's file; None: the run has trained it.
    """
    taught, still = _known(teacher), _known(untouched)
    if taught is None or still is None or _better(taught, still, higher_is_better):
        return None
    scores = f"is not better than its untouched input ({metric} {taught:.4g} against {still:.4g}, search split)"
    if checkpoint is None:
        return (
            f"the teacher {scores}, and what learns from it can hardly be: train it for longer (teacher.schedule), or "
            "see whether data.direction is the one that is meant"
        )
    return (
        f"the teacher {scores}, and what learns from it can hardly be: {checkpoint} may be a generator of the other "
        "direction (data.direction), or one of other images"
    )


def _known(score: float | None) -> float | None:
    return score if isinstance(score, int | float) and math.isfinite(score) else None


def _better(one: float, other: float, higher_is_better: bool) -> bool:
    return one > other if higher_is_better else one < other


def _range(score: float, interval: Interval | None) -> Interval:
    if interval is not None:
        return interval
    margin = TOLERANCE * abs(score)
    return Interval(score - margin, score + margin)
