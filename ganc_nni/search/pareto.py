"""The trials that no other one beats in both score and MACs, and their image."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganc_nni.core.io import write_atomically
from ganc_nni.core.widths import Widths


@dataclass(frozen=True)
class Point:
    """A scored sub-generator.

    Attributes:
        macs: Multiply-accumulates per image.
        score: What the metric said.
        widths: Its name.
    """

    macs: int
    score: float
    widths: Widths


class Front:
    """The points that no other one dominates: none has fewer or equal MACs and a better or equal score.

    Of points that are equal in both the first one counts. Adding one of ``n`` points on the front takes ``O(n)``.

    Args:
        higher_is_better: The direction of scores.
    """

    def __init__(self, higher_is_better: bool) -> None:
        self._sign = -1 if higher_is_better else 1
        self.points: list[Point] = []
        """By rising MACs, so that scores become better too."""

    def add(self, point: Point) -> bool:
        """Take up a point; whether it is on the front."""
        cost = self._sign * point.score
        at = bisect.bisect_right(self.points, point.macs, key=lambda each: each.macs)
        if at > 0 and self._sign * self.points[at - 1].score <= cost:
            return False
        first = at - 1 if at > 0 and self.points[at - 1].macs == point.macs else at
        last = at
        while last < len(self.points) and self._sign * self.points[last].score >= cost:
            last += 1
        self.points[first:last] = [point]
        return True


@dataclass(frozen=True)
class Caption:
    """What the image of a front says in words.

    Attributes:
        title: Above it.
        metric: The score's name.
        convention: How MACs are counted.
        higher_is_better: The direction of scores.
        budget: MACs at which the recipe draws the line; None: it does not.
    """

    title: str
    metric: str
    convention: str
    higher_is_better: bool
    budget: float | None


def draw(path: Path, points: Sequence[Point], front: Sequence[Point], best: Widths | None, caption: Caption) -> None:
    """Write an image: all points, the front as a line, the budget, the best of this search marked.

    Raises:
        TrainingError: The file cannot be written.
    """
    # matplotlib takes half a second to load: only where it draws
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7.2, 4.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    many, eng = len(points) > 500, EngFormatter(sep="", places=None)
    shown = range_that_matters([each.score for each in points], caption.higher_is_better)
    if shown is not None:
        axes.set_ylim(*shown)
    outside = 0 if shown is None else sum(not shown[0] <= each.score <= shown[1] for each in points)
    axes.plot(
        [each.macs for each in points],
        [each.score for each in points],
        linestyle="none",
        marker=".",
        markersize=3 if many else 8,
        markeredgewidth=0,
        alpha=0.35 if many else 0.7,
        color="#4477aa",
        label=f"{len(points):,} sub-generators" + (f", {outside:,} worse ones outside" if outside else ""),
    )
    axes.plot(
        [each.macs for each in front],
        [each.score for each in front],
        color="#ee7733",
        linewidth=1.6,
        drawstyle="steps-post",  # what so many MACs can reach
        marker="o" if len(front) <= 60 else None,
        markersize=4,
        label=f"front ({len(front)})",
    )
    for each in [each for each in points if each.widths == best]:
        axes.plot(
            [each.macs],
            [each.score],
            linestyle="none",
            marker="*",
            markersize=15,
            color="#cc3311",
            markeredgecolor="white",
            label=f"best of this search: {each.score:.4g}",
        )
    if caption.budget is not None:
        name = f"budget: {eng(caption.budget)}"
        axes.axvline(caption.budget, color="#444444", linestyle="--", linewidth=1, label=name)
    axes.xaxis.set_major_formatter(eng)
    axes.set_xlabel(f"MACs per image ({caption.convention} convention)")
    axes.set_ylabel(f"{caption.metric} ({'higher' if caption.higher_is_better else 'lower'} is better)")
    axes.set_title(caption.title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize="small")
    write_atomically(path, lambda temporary: figure.savefig(temporary))


def range_that_matters(scores: Sequence[float], higher_is_better: bool) -> tuple[float, float] | None:
    """Least and largest score to show where the worst ones would squeeze all others into a line; None: show all."""
    ordered = sorted(scores, reverse=higher_is_better)
    best, nearly_worst, worst = ordered[0], ordered[int(0.95 * (len(ordered) - 1))], ordered[-1]
    if len(ordered) < 20 or abs(worst - best) <= 3 * abs(nearly_worst - best):
        return None
    spread = nearly_worst - best
    least, largest = sorted((best - 0.08 * spread, nearly_worst + 0.15 * spread))
    return least, largest
