"""Charts as stretchable SVG paths with labels in HTML: lines and letters keep their size on any screen.

A path lives in a square of 1000 x 1000 units, y downwards, that a browser stretches over the plot; strokes do not
stretch with it, and a dot is a stroke without length. Colours are the style sheet's, by class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from matplotlib.ticker import EngFormatter, MaxNLocator

from ganc_nni.core.widths import Widths
from ganc_nni.report.curves import Curve
from ganc_nni.report.trials import Trials
from ganc_nni.search.pareto import Point, range_that_matters

UNITS = 1000
SERIES = ("one", "two", "three", "four")
"""Classes of the lines of a chart with several."""

BUCKETS = 120
"""Points of a drawn curve; a longer one is averaged."""


class Tick(NamedTuple):
    """A mark on an axis: its place in percent of the axis, and its label."""

    at: float
    label: str


class Mark(NamedTuple):
    """A path, the class that gives it colour and width, and what it says when pointed at."""

    kind: str
    path: str
    title: str = ""


@dataclass
class Chart:
    """What the page needs to show a chart.

    Attributes:
        title: Above it.
        alt: What it shows, in words, for those who do not see it.
        x_name: Of the axis.
        y_name: Of the axis.
        x_ticks: Left to right.
        y_ticks: In percent from the top.
        marks: Drawn in this order.
        legend: Class and words.
    """

    title: str
    alt: str
    x_name: str
    y_name: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    marks: list[Mark] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)


class Axis:
    """From figures to places, with a little room at both ends.

    Args:
        values: What has to be on it.
        upwards: Whether it points up, so that larger figures have smaller places.
        room: At each end, as a part of the axis.
    """

    def __init__(self, values: Iterable[float], upwards: bool = False, room: float = 0.05) -> None:
        values = list(values)
        low, high = min(values), max(values)
        spare = (high - low) * room or abs(low) * 0.1 or 1.0
        self.low, self.high = low - spare, high + spare
        self.upwards = upwards

    def part(self, value: float) -> float:
        """0 to 1."""
        part = (value - self.low) / (self.high - self.low)
        return 1 - part if self.upwards else part

    def place(self, value: float) -> int:
        """0 to 1000; what lies outside ends there."""
        return round(UNITS * min(1.0, max(0.0, self.part(value))))

    def ticks(self, prefixes: bool = False, most: int = 5) -> list[Tick]:
        """Round figures; with ``prefixes`` as 2.5M."""
        form = EngFormatter(sep="") if prefixes else "{:.6g}".format
        found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        inside = [float(value) for value in found if self.low <= value <= self.high]
        return [Tick(round(100 * self.part(value), 2), form(value)) for value in inside]


def _line(points: Iterable[tuple[int, int]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _dots(points: Iterable[tuple[int, int]]) -> str:
    """Places that are taken twice are drawn once, which bounds the file."""
    return "".join(f"M{x} {y}h0" for x, y in sorted(set(points)))


def scatter(
    trials: Trials, best: Widths | None, metric: str, higher_is_better: bool, convention: str, budget: float | None
) -> Chart:
    """Score against MACs: all sub-generators, the front, the budget, the chosen one. There must be a scored one.

    Args:
        trials: What was tried.
        best: The chosen one's widths.
        metric: What scores are called.
        higher_is_better: Their direction.
        convention: How MACs are counted.
        budget: At which to draw a line; None: at none.
    """
    points, front = trials.points, trials.front
    shown = range_that_matters([each.score for each in points], higher_is_better)
    x = Axis([*(each.macs for each in points), *([] if budget is None else [budget])])
    y = Axis(shown or [each.score for each in points], upwards=True, room=0 if shown else 0.08)
    eng, direction = EngFormatter(sep="", places=1), "higher" if higher_is_better else "lower"
    outside = [each for each in points if shown is not None and not shown[0] <= each.score <= shown[1]]
    hidden = {each.widths for each in outside}

    def at(point: Point) -> tuple[int, int]:
        return x.place(point.macs), y.place(point.score)

    def title(point: Point) -> str:
        return f"{point.widths}: {metric} {point.score:.4g}, {eng(point.macs)} MACs"

    many = " many" if len(points) > 500 else ""
    marks = [Mark(f"dots trial{many}", _dots(at(each) for each in points if each.widths not in hidden))]
    legend = [("trial", f"{len(points):,} sub-generators" + (f", {len(outside):,} worse ones outside" * bool(outside)))]
    marks.append(Mark("front", _steps([at(each) for each in front])))
    marks += [Mark("dots front-dot", _dots([at(each)]), title(each)) for each in front if len(front) <= 200]
    legend.append(("front", f"front: {len(front):,} that none beats in both"))
    chosen = next((each for each in points if each.widths == best), None)
    if chosen is not None:
        marks.append(Mark("dots chosen", _dots([at(chosen)]), title(chosen)))
        legend.append(("chosen", f"chosen: {chosen.score:.4g}"))
    if budget is not None:
        place = x.place(budget)
        marks.insert(0, Mark("budget", f"M{place} 0V{UNITS}"))
        legend.append(("budget", f"budget: {eng(budget)}"))
    scores = [each.score for each in points]
    alt = (
        f"{metric} from {min(scores):.4g} to {max(scores):.4g} against MACs from {eng(min(p.macs for p in points))} to "
        f"{eng(max(p.macs for p in points))} of {len(points):,} sub-generators; the table below lists the front"
    )
    name = f"{metric} ({direction} is better)"
    x_name = f"MACs per image ({convention} convention)"
    return Chart("Score against MACs", alt, x_name, name, x.ticks(prefixes=True), y.ticks(), marks, legend)


def _steps(places: Sequence[tuple[int, int]]) -> str:
    """A staircase: what so many MACs can reach."""
    return f"M{places[0][0]} {places[0][1]}" + "".join(f"H{x}V{y}" for x, y in places[1:]) + f"H{UNITS}"


def score_chart(curves: Sequence[Curve], metric: str, higher_is_better: bool) -> Chart:
    """Validation scores, a line for each network that was scored."""
    x = Axis([0, *(step for curve in curves for step in curve.steps)], room=0.02)
    y = Axis([value for curve in curves for value in curve.values], upwards=True, room=0.1)
    chart = _chart(metric, f"{'higher' if higher_is_better else 'lower'} is better", x, y)
    for kind, curve in zip(SERIES, curves, strict=False):
        places = [(x.place(step), y.place(value)) for step, value in zip(curve.steps, curve.values, strict=True)]
        name = curve.name.partition("/")[2]
        chart.marks += [Mark(f"line {kind}", _line(places)), Mark(f"dots {kind}", _dots(places[-200:]))]
        chart.legend.append((kind, f"{name}: {curve.values[-1]:.4g}"))
    chart.alt = f"{metric} at {len(curves[0].steps)} validations; at the last one " + ", ".join(
        words for _, words in chart.legend
    )
    return chart


def loss_chart(curve: Curve) -> Chart:
    """One loss: its mean over neighbouring steps as a line, their least and largest as a band."""
    buckets = _averaged(curve)
    x = Axis([0, *curve.steps], room=0.02)
    y = Axis([*(low for _, _, low, _ in buckets), *(high for _, _, _, high in buckets)], upwards=True)
    name = curve.name.replace("/", ": ")
    chart = _chart(name, f"{curve.values[-1]:.4g} at the end", x, y)
    steps = [x.place(step) for step, *_ in buckets]
    if len(curve.values) > len(buckets):
        upper = [y.place(high) for *_, high in buckets]
        lower = [y.place(low) for _, _, low, _ in buckets]
        around = [*zip(steps, upper, strict=True), *zip(reversed(steps), reversed(lower), strict=True)]
        chart.marks.append(Mark("band", _line(around) + "Z"))
    places = [(step, y.place(mean)) for step, (_, mean, _, _) in zip(steps, buckets, strict=True)]
    chart.marks.append(Mark("line one", _line(places)) if len(places) > 1 else Mark("dots one", _dots(places)))
    chart.alt = f"{name} over {curve.steps[-1]:,} steps: from {curve.values[0]:.4g} to {curve.values[-1]:.4g}"
    return chart


def _chart(title: str, y_name: str, x: Axis, y: Axis) -> Chart:
    return Chart(title, "", "steps", y_name, x.ticks(prefixes=True, most=4), y.ticks(most=4))


def _averaged(curve: Curve) -> list[tuple[float, float, float, float]]:
    """Step, mean, least and largest of neighbouring values."""
    size = -(-len(curve.values) // BUCKETS)
    parts = [slice(first, first + size) for first in range(0, len(curve.values), size)]
    return [
        (sum(steps := curve.steps[part]) / len(steps), sum(values) / len(values), min(values), max(values))
        for part in parts
        if (values := curve.values[part])
    ]
